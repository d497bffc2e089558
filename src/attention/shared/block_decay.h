// Log-decays that are summed within blocks of rows and kept beside each row: so every exponential that is used is at
// most 1, and no product runs over the whole text.
#pragma once

#include <algorithm>
#include <vector>

#include "attention/operator.h"

namespace espalier {

// What is kept beside the row before `row` on its path, or null at the start of a block: sums begin anew there.
inline const float* extra_before(const SegmentRows& segment, int kv_head, int64_t row, int64_t block) {
  if (segment.position(row) % block == 0) return nullptr;
  const int32_t parent = segment.parent[row];
  return parent >= 0 ? segment.extra_of(parent, kv_head)
                     : segment.state->extra_row(kv_head, segment.state->length() - 1);
}

// [columns, rows] of x [rows, columns].
inline std::vector<float> transposed(const std::vector<float>& x, int64_t columns) {
  const int64_t rows = static_cast<int64_t>(x.size()) / columns;
  std::vector<float> y(x.size());
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c)
      y[static_cast<size_t>(c * rows + r)] = x[static_cast<size_t>(r * columns + c)];
  }
  return y;
}

// z [end - begin, outputs] = hidden weight + bias for rows [begin, end); weight [d, outputs].
inline void project_gates(const Kernels& kernels, const SegmentRows& segment, int64_t begin, int64_t end,
                          const std::vector<float>& weight, const std::vector<float>& bias, float* z) {
  const int64_t outputs = static_cast<int64_t>(bias.size());
  for (int64_t row = begin; row < end; ++row) std::copy_n(bias.data(), outputs, z + (row - begin) * outputs);
  kernels.weighted_sum({.weights = segment.hidden + begin * segment.hidden_stride,
                        .weight_stride = segment.hidden_stride,
                        .queries = end - begin,
                        .rows = weight.data(),
                        .count = static_cast<int64_t>(weight.size()) / outputs,
                        .row_stride = outputs,
                        .dim = outputs,
                        .out = z,
                        .out_stride = outputs});
}

}  // namespace espalier
