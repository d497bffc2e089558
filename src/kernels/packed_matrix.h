// A linear layer's weights, packed once at load for the products of a step.
//
// Layout: panels of 16 outputs. f32: [panel][K][16]; bf16: [panel][ceil(K/2)][16][2] (even, odd).
// Quantized: [panel][superblock of 64 inputs], see kernels/quantized.h. Missing outputs of the last panel and missing
// inputs are zero.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "core/arena.h"
#include "core/thread_pool.h"
#include "core/weight_memory.h"
#include "kernels/kernels.h"

namespace espalier {

// Quantized types: kernels/quantized.h.
enum class WeightType { kF32, kBf16, kInt8, kInt4, kInt4Min };

// What is said of a type wherever types are listed.
struct WeightKind {
  WeightType type;
  std::string_view name;    // as options and files have it
  std::string_view stored;  // the type of GGUF tensors that it holds as they are; empty: none
};
inline constexpr WeightKind kWeightKinds[] = {{WeightType::kF32, "f32", ""},
                                              {WeightType::kBf16, "bf16", ""},
                                              {WeightType::kInt8, "int8", "Q8_0"},
                                              {WeightType::kInt4, "int4-sym", "Q4_0"},
                                              {WeightType::kInt4Min, "int4", "Q4_1"}};

// Throws InvalidArgument listing the names.
WeightType weight_type_by_name(std::string_view name);
std::string_view weight_type_name(WeightType type);
// What a weight takes in memory, on average.
double bytes_per_weight(WeightType type);

struct QuantizedFormat;

class PackedMatrix {
 public:
  PackedMatrix() = default;
  // weights [outputs, inputs], row-major; packed into a block of `memory`, which copies share.
  PackedMatrix(const float* weights, int64_t outputs, int64_t inputs, WeightType type, WeightMemory& memory);

  int64_t outputs() const { return outputs_; }
  int64_t inputs() const { return inputs_; }
  WeightType type() const { return type_; }
  int64_t bytes() const { return bytes_; }
  const std::byte* data() const { return data_.get(); }
  // Of a quantized type that the constructor packed: whether all weights are held as they were given.
  bool exact() const { return exact_; }

  // Packs rows [begin, begin + count) from weights [count, inputs]; begin is a multiple of 16. Lets a large
  // matrix be packed piece by piece, and by several threads. Returns whether a quantized type holds them as they are.
  bool pack_rows(const float* weights, int64_t begin, int64_t count);
  static PackedMatrix empty(int64_t outputs, int64_t inputs, WeightType type, WeightMemory& memory);

  // The stored (rounded) weights of one output: [inputs]. An embedding table is read this way.
  void row(int64_t output, float* out) const;

 private:
  bool pack_quantized(const QuantizedFormat& format, const float* row, int64_t output);

  int64_t outputs_ = 0, inputs_ = 0, bytes_ = 0;
  WeightType type_ = WeightType::kF32;
  bool exact_ = false;
  std::shared_ptr<std::byte> data_;
};

// Where one matrix's results go: [rows, outputs], rows y_stride floats apart.
struct OutputRows {
  float* y;
  int64_t y_stride;
};

// y_m[r, o] = sum_k x[r, k] w_m[o, k] for every matrix of `weights` (same inputs and type, at most 8), all rows and
// outputs, on all threads: one job, runs of panels are claimed. x [rows, inputs], rows x_stride floats apart; the
// results must not overlap x. rows >= 0.
void multiply(const Kernels& kernels, ThreadPool& pool, Arena& scratch, std::span<const PackedMatrix* const> weights,
              const float* x, int64_t rows, int64_t x_stride, std::span<const OutputRows> outputs);

}  // namespace espalier
