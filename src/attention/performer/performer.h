// `performer(features=2 Dk, form=positive|hyperbolic)`: FAVOR+ (Choromanski et al. 2020, arXiv 2009.14794), an additive
// mechanism (shared/additive.h) whose features are random projections, drawn once and kept in the checkpoint. D = Dk.
//
//   x' = x D^(-1/4), u = W x', d(x) = x + 1e-6
//   positive:   phi = exp(u - |x'|^2 / 2) / sqrt(M)
//   hyperbolic: M / 2 directions, phi = [exp(u - |x'|^2 / 2), exp(-u - |x'|^2 / 2)] / sqrt(M)
//
// No maximum is subtracted: one over all keys, as some implementations take it, lets the past depend on the future.
// Parameter: performer.weight [directions, D], normal rows, orthogonal in blocks of D; not trained.
#pragma once

#include "attention/shared/additive.h"

namespace espalier {

struct PerformerOptions {
  int64_t features;    // M
  int64_t directions;  // rows of W
  bool hyperbolic;

  static PerformerOptions of(const AttentionOptions& options, const AttentionShape& shape);
};

}  // namespace espalier
