// Additive mechanisms (attention/shared/additive.h) whose features are random projections, drawn once and kept in the
// checkpoint. D = Dk.
//
//   performer(features=2 Dk, form=positive|hyperbolic)                  FAVOR+, Choromanski et al. 2020, arXiv
//   2009.14794
//     x' = x D^(-1/4), u = W x'. positive: phi = exp(u - |x'|^2 / 2) / sqrt(M).
//     hyperbolic: M / 2 directions, phi = [exp(u - |x'|^2 / 2), exp(-u - |x'|^2 / 2)] / sqrt(M).  d(x) = x + 1e-6.
//     No maximum is subtracted: one over all keys, as some implementations take it, lets the past depend on the future.
//     Parameter: performer.weight [directions, D], normal rows, orthogonal in blocks of D; not trained.
//   rfa(features=Dk)                                                    Peng et al. 2021, arXiv 2103.02143
//     x^ = x / (|x| + 1e-3), u = R (sigma x^), phi = 0.1 [sin u, cos u], d(x) = max(x, 1).
//     Parameters: rfa.weight [Hk, P, D], normal, not trained; rfa.sigma [Hk, D], 1 at first. A query head uses its KV
//     head's. d is that of the original's step form, which its masked form contradicts where phi.z < 1.
#pragma once

#include "attention/shared/additive.h"

namespace espalier {

AdditiveForm make_performer_form(const AttentionSpec& spec, const AttentionShape& shape);
AdditiveForm make_rfa_form(const AttentionSpec& spec, const AttentionShape& shape);

struct PerformerOptions {
  int64_t features;    // M
  int64_t directions;  // rows of W
  bool hyperbolic;

  static PerformerOptions of(const AttentionSpec& spec, const AttentionShape& shape);
};

inline constexpr float kRfaScale = 0.1f, kRfaNorm = 1e-3f;

}  // namespace espalier
