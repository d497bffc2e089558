// `transnormer(group=64)` (Qin et al. 2022, arXiv 2210.10340; L layers):
//
//   layers [0, L / 2), DiagAttention: softmax over the rows s <= t of t's group, scores q.k / sqrt(Dk)
//   other layers, NormAttention:      y_t = phi(q_t).sum_{s<=t} phi(k_s) v_s^T, phi(x) = elu(x) + 1, no denominator;
//                                     then, over all heads together, y / (|y| / sqrt(H Dv) + 1e-8)
//
// The norm is the layer's: in augmented(global=transnormer) it takes the sum of all parts. State: the open group's
// rows, or a Dk x Dv sum.
#pragma once

#include "attention/operator.h"

namespace espalier {

inline bool is_diagonal_layer(const AttentionShape& shape) {
  return shape.layer < shape.layers / 2;
}

}  // namespace espalier
