// Weights of 8 or 4 bits in groups of 32 inputs, and the rows that meet them. What is rounded, and when, is part of
// what a weight type means, so it is the same for any number of rows, tile, thread and instruction set:
//
//   w[o, k] = d[o, g] (q[o, k] - zero) + m[o, g]      d and m in half precision; m only of a type with minima
//   x[r, k] ~ s[r, g] b[r, k]                         s = max |x| / 127 over the group, b = round(x / s)
//   y[r, o] = fma(d s, sum_k (q - zero) b, y), then fma(m, s sum_k b, y), for the groups g in ascending order
//
// The sums within a group are sums of integers, which have no rounding.
//
//   type            q          zero   m     bits per weight
//   int8            1 … 255    128          8.5
//   int4-sym        0 … 15     8            4.5
//   int4            0 … 15     0      yes   5
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace espalier {

inline constexpr int64_t kScaleGroup = 32;  // inputs that share a scale
// Two groups: their scales fill a cache line, and so their weights begin at one.
inline constexpr int64_t kSuperblock = 64;

struct QuantizedFormat {
  int bits, zero;
  bool minimum;

  constexpr int64_t header_bytes() const { return minimum ? 128 : 64; }    // d of two groups [2][16], then m
  constexpr int64_t group_bytes() const { return bits == 8 ? 512 : 256; }  // weights of a group for 16 outputs
  constexpr int64_t superblock_bytes() const { return header_bytes() + 2 * group_bytes(); }
};
inline constexpr QuantizedFormat kInt8Format{8, 128, false}, kInt4Format{4, 8, false}, kInt4MinFormat{4, 0, true};

// Inputs with zeros up to whole superblocks.
inline constexpr int64_t padded_inputs(int64_t inputs) {
  return (inputs + kSuperblock - 1) / kSuperblock * kSuperblock;
}

// One group's weights: what they are stored as.
struct QuantizedGroup {
  uint16_t d = 0, m = 0;  // half precision
  uint8_t q[kScaleGroup] = {};

  float value(const QuantizedFormat& format, int64_t k) const;
};
// The group of least squared error that a search finds; x [count <= 32]. Sets `error`, if not null, to that error: 0
// where x is a group of the format already.
QuantizedGroup quantize_group(const QuantizedFormat& format, const float* x, int64_t count, float* error = nullptr);

// Where weight k of a group stands in a panel of 16 outputs: 64-byte lines of four inputs per output; of 4 bits, two of
// them share a line, inputs 16 apart.
inline constexpr int64_t byte_of_weight(const QuantizedFormat& format, int64_t lane, int64_t k) {
  const int64_t line = format.bits == 8 ? k / 4 : k / 4 % 4;
  return line * 64 + lane * 4 + k % 4;
}
inline constexpr int shift_of_weight(const QuantizedFormat& format, int64_t k) {
  return format.bits == 8 ? 0 : static_cast<int>(k / 16 * 4);
}

// A group of a packed row, which is one after the other of them: all that a product needs of it stands together, so
// that one address serves.
struct InputGroup {
  int8_t b[kScaleGroup];
  float scale, sum;  // s, s sum(b)
  int32_t start;     // what the integer sum starts from, -zero sum(b)
};
// Bits of a size from which on it is an infinity or NaN.
inline constexpr int32_t kInfinity = 0x7f800000;
// The scale s of a group of inputs by the bits of its greatest size, and what its inputs are multiplied by.
// gemm_int_dot.cpp has it for four groups at a time.
struct InputScale {
  static constexpr float kGreatest = 127.0f;  // of the rounded inputs
  static constexpr float kSmallest = 1e-30f;  // what is smaller is zero: its inverse has no room
  bool finite;
  float scale, inverse;

  explicit InputScale(int32_t top) : finite(top < kInfinity) {
    const float greatest = std::bit_cast<float>(top);
    const bool counts = finite && greatest > kSmallest;
    scale = finite ? (counts ? greatest / kGreatest : 0.0f) : std::numeric_limits<float>::quiet_NaN();
    inverse = counts ? kGreatest / greatest : 0.0f;
  }
};
// Bytes of a packed row: an odd number of cache lines, so that rows do not meet in the same sets of the cache.
int64_t quantized_row_bytes(int64_t inputs);
// x [rows, inputs], x_stride apart -> [rows][row_bytes].
void quantize_rows(const QuantizedFormat& format, const float* x, int64_t x_stride, int64_t rows, int64_t inputs,
                   int64_t row_bytes, void* out);

}  // namespace espalier
