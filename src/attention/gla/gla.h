// `gla(norm=head|none)`: gated linear attention (Yang et al. 2023, arXiv 2312.06635). Hk states of Dk x Dv, shared by
// the query heads of a KV head; c = 1 / sqrt(Dk).
//
//   S_t = diag(e^{g_t}) S_{t-1} + k_t v_t^T, y_t = c S_t^T q_t
//   g_t = log sigmoid(W x_t + b) / 16, per KV head and channel, from the layer's input x_t
//
// Then the norm of shared/head_norm.h. Parameters: gla.weight [Hk Dk, d], gla.bias [Hk Dk].
#pragma once

namespace espalier {

inline constexpr double kGateDivisor = 16.0;

}  // namespace espalier
