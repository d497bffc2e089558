// `softmax`: scaled dot-product attention over a KV cache (Vaswani et al. 2017), the baseline.
//
//   y_t = sum_{s<=t} exp(q_t.k_s / sqrt(Dk)) v_s / sum_{s<=t} exp(q_t.k_s / sqrt(Dk))
//
// Of a span: over all its s. With a relative bias: exp(c q_t.k_s + b_h(s - t)), where c is AttentionShape::scale (T5:
// 1).
//
// State: every row. Partials are made per tile of 256 positions aligned to position 0, each with its own maximum, and
// merged from left to right, so the result depends on positions only.
#pragma once

#include <cmath>

#include "attention/operator.h"

namespace espalier {

inline float softmax_scale(const AttentionShape& shape) {
  return shape.scale != 0 ? shape.scale : 1.0f / std::sqrt(static_cast<float>(shape.dim_k));
}

}  // namespace espalier
