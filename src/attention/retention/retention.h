// `retention(decay=retnet|lightning, norm=head|none)`: a sum that forgets at a fixed rate (Sun et al. 2023, arXiv
// 2307.08621; Qin et al. 2024, arXiv 2401.04658). Hk states of Dk x Dv, shared by the query heads of a KV head.
//
//   y_t = c sum_{s<=t} gamma_h^{t-s} (q_t.k_s) v_s, c = 1 / sqrt(Dk)
//   retnet: gamma_h = 1 - 2^(-5-h); lightning: log gamma_h = -(8 / Hk) (1 - layer / layers) h. h counts KV heads.
//
// Then the norm of shared/head_norm.h.
#pragma once

#include "attention/operator.h"

namespace espalier {

struct RetentionOptions {
  bool lightning, norm;

  static RetentionOptions of(const AttentionOptions& options);
  // log gamma of a KV head.
  double log_decay(const AttentionShape& shape, int kv_head) const;
};

}  // namespace espalier
