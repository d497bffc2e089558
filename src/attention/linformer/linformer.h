// `linformer(group=64, rank=16)`: a causal form of Linformer (Wang et al. 2020, arXiv 2006.04768), which projects keys
// and values along the sequence and has no causal form of its own.
//
//   K~_g = E_h K_g, V~_g = F_h V_g        each group of G rows becomes r rows
//   y_t = softmax over [K~ of groups <= g(t) - 2, K of the rows s <= t of groups g(t) - 1 and g(t)], x = q.k / sqrt(Dk)
//
// Within a single group and without the causal rows this is the original's softmax(q (E K)^T / sqrt(D)) (F V).
// State: r (Dk + Dv) floats per KV head for each group that has left, so it grows, G / r times slower than softmax's,
// and the rows of two groups. Parameters: linformer.k [Hk, r, G], linformer.v [Hk, r, G], at first means of G / r rows.
#pragma once

#include "attention/operator.h"

namespace espalier {

struct LinformerOptions {
  int64_t group, rank;

  static LinformerOptions of(const AttentionOptions& options);
};

}  // namespace espalier
