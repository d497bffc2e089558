// Log-decays that are summed within blocks of rows and kept beside each row (attention/decay.h).
#pragma once

#include <cmath>

#include "attention/operator.h"

namespace espalier {

// What is kept beside the row before `row` on its path, or null at the start of a block: sums begin anew there.
inline const float* extra_before(const SegmentRows& segment, int kv_head, int64_t row, int64_t block) {
  if (segment.position(row) % block == 0) return nullptr;
  const int32_t parent = segment.parent[row];
  return parent >= 0 ? segment.extra_of(parent, kv_head)
                     : segment.state->extra_row(kv_head, segment.state->length() - 1);
}

// log(1 + e^x)
inline double softplus(double x) {
  return x > 0 ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x));
}

}  // namespace espalier
