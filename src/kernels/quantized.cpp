#include "kernels/quantized.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/half.h"

namespace espalier {
namespace {

constexpr float kToNearest = 12582912.0f;  // 1.5 * 2^23: the sum's last bits are the nearest whole number

int32_t nearest(float x) {
  return std::bit_cast<int32_t>(x + kToNearest) - std::bit_cast<int32_t>(kToNearest);
}

// The group with this scale and minimum, each weight to its nearest; and its squared error over x [32].
float with_scale(const QuantizedFormat& format, float d, float m, const float* x, QuantizedGroup& group) {
  group.d = float_to_half(d);
  group.m = format.minimum ? float_to_half(m) : 0;
  const float scale = half_to_float(group.d), minimum = half_to_float(group.m);
  const float inverse = scale != 0 ? 1.0f / scale : 0.0f;
  const int32_t lowest = (format.bits == 8 ? 1 : 0) - format.zero,
                highest = (format.bits == 8 ? 255 : 15) - format.zero;
  float error = 0;
  for (int64_t k = 0; k < kGroup; ++k) {
    const int32_t q = std::clamp(nearest(std::clamp((x[k] - minimum) * inverse, -256.0f, 256.0f)), lowest, highest);
    group.q[k] = static_cast<uint8_t>(q + format.zero);
    const float difference = scale * static_cast<float>(q) + minimum - x[k];
    error += difference * difference;
  }
  return error;
}

// Scale and minimum of least squared error for the weights that a group has.
void refine(const QuantizedFormat& format, const QuantizedGroup& group, const float* x, float& d, float& m) {
  float q_sum = 0, qq = 0, x_sum = 0, xq = 0;
  for (int64_t k = 0; k < kGroup; ++k) {
    const auto q = static_cast<float>(group.q[k] - format.zero);
    q_sum += q, qq += q * q, x_sum += x[k], xq += q * x[k];
  }
  constexpr auto n = static_cast<float>(kGroup);
  if (!format.minimum) {
    if (qq > 0) d = xq / qq;
    return;
  }
  const float determinant = n * qq - q_sum * q_sum;
  if (determinant <= 0) return;
  d = (n * xq - q_sum * x_sum) / determinant;
  m = (x_sum - d * q_sum) / n;
}

}  // namespace

float QuantizedGroup::value(const QuantizedFormat& format, int64_t k) const {
  const float product = half_to_float(d) * static_cast<float>(q[k] - format.zero);
  return format.minimum ? product + half_to_float(m) : product;
}

QuantizedGroup quantize_group(const QuantizedFormat& format, const float* x, int64_t count, float* error) {
  float values[kGroup] = {};  // of a short group: zeros, which every format has near enough
  std::copy_n(x, count, values);
  const float low = *std::min_element(values, values + kGroup), high = *std::max_element(values, values + kGroup);
  const float furthest = -low > high ? low : high;  // the sign counts: of int4, one side has a step more
  QuantizedGroup best;
  if (format.bits == 8) {
    const float own = with_scale(format, std::abs(furthest) / 127.0f, 0, values, best);
    if (error) *error = own;
    return best;
  }
  float least = std::numeric_limits<float>::infinity();
  for (const float share : {1.0f, 0.85f}) {  // the whole range, then a narrower one that clips what is far out
    float d = format.minimum ? (high - low) * share / 15.0f : furthest * share / -8.0f;
    float m = low + (high - low) * (1 - share) / 2;
    for (int round = 0; round < 2 && least > 0; ++round) {
      QuantizedGroup group;
      const float own = with_scale(format, d, m, values, group);
      if (own < least) least = own, best = group;
      if (least == 0) break;
      refine(format, group, values, d, m);
    }
  }
  if (error) *error = least;
  return best;
}

int64_t quantized_row_bytes(int64_t inputs) {
  constexpr int64_t kLine = 64;
  const int64_t padded = padded_inputs(inputs), bytes = padded + padded / kGroup * 12;
  return ((bytes + kLine - 1) / kLine | 1) * kLine;
}

void quantize_rows(const QuantizedFormat& format, const float* x, int64_t x_stride, int64_t rows, int64_t inputs,
                   int64_t row_bytes, void* out) {
  constexpr int32_t kInfinity = 0x7f800000;
  constexpr float kSmallest = 1e-30f;  // what is smaller is zero: its inverse has no room
  const int64_t padded = padded_inputs(inputs);
  for (int64_t r = 0; r < rows; ++r) {
    auto* b = static_cast<int8_t*>(out) + r * row_bytes;
    auto* scale = reinterpret_cast<float*>(b + padded);
    float* sum = scale + padded / kGroup;
    auto* start = reinterpret_cast<int32_t*>(sum + padded / kGroup);
    for (int64_t g = 0; g < padded / kGroup; ++g) {
      float values[kGroup] = {};
      std::copy_n(x + r * x_stride + g * kGroup, std::clamp<int64_t>(inputs - g * kGroup, 0, kGroup), values);
      int32_t top = 0;  // the bits of max |x|, of infinities and NaNs above all others
      for (const float value : values) top = std::max(top, std::bit_cast<int32_t>(value) & 0x7fffffff);
      const float greatest = std::bit_cast<float>(top);
      const bool finite = top < kInfinity;
      scale[g] = finite ? (greatest > kSmallest ? greatest / 127.0f : 0.0f) : std::numeric_limits<float>::quiet_NaN();
      const float factor = finite && greatest > kSmallest ? 127.0f / greatest : 0.0f;
      int32_t total = 0;
      for (int64_t k = 0; k < kGroup; ++k) {
        const int32_t q = finite ? nearest(values[k] * factor) : 0;
        b[g * kGroup + k] = static_cast<int8_t>(q);
        total += q;
      }
      sum[g] = scale[g] * static_cast<float>(total);
      start[g] = -format.zero * total;
    }
  }
}

}  // namespace espalier
