// `yoso(group=64, bits=8, hashes=5)`: YOSO (Zeng et al. 2021, arXiv 2111.09714), made causal. x^ = x / max(|x|, 1e-6).
//
//   raw_t = sum_{s<=t, g(s)=g(t)} (1 - acos(0.98 q^_t.k^_s) / pi)^bits v_s
//         + (1 / m) sum_{j<m} sum_{g(s)<g(t)} [code_j(q_t) = code_j(k_s)] v_s
//   y_t = raw_t / max(|raw_t|, 1e-12), head by head
//
// code_j(x): the signs of `bits` random projections of x. Two unit rows at angle a agree in all of them with
// probability (1 - a / pi)^bits, so the second sum estimates what the first is, and it is additive: table_j[code] sums
// v. State: m 2^bits Dv floats per KV head (29 MB for SmolLM2-135M with the defaults), the rows of two groups, and
// their codes. Parameter: yoso.weight [Hk, m, bits, Dk], normal, drawn once, not trained. Gradient: of the expectation
// in both sums, as the original's; a surrogate.
#pragma once

#include "attention/operator.h"

namespace espalier {

struct YosoOptions {
  int64_t group, bits, hashes;

  static YosoOptions of(const AttentionOptions& options);
};

inline constexpr double kYosoShrink = 0.98, kYosoMinNorm = 1e-12;

}  // namespace espalier
