// `rfa(features=Dk)`: random feature attention (Peng et al. 2021, arXiv 2103.02143), an additive mechanism
// (shared/additive.h) whose features are random projections, drawn once and kept in the checkpoint. D = Dk.
//
//   x^ = x / (|x| + 1e-3), u = R (sigma x^), phi = 0.1 [sin u, cos u], d(x) = max(x, 1)
//
// Parameters: rfa.weight [Hk, P, D], normal, not trained; rfa.sigma [Hk, D], 1 at first. A query head uses its KV
// head's. d is that of the original's step form, which its masked form contradicts where phi.z < 1.
#pragma once

namespace espalier {

inline constexpr float kRfaScale = 0.1f, kRfaNorm = 1e-3f;

}  // namespace espalier
