// Mechanisms whose state forgets, Hk states of Dk x Dv shared by the query heads of a KV head. c = 1 / sqrt(Dk); every
// mechanism's heads end in y = norm.weight * y / sqrt(mean(y^2) + 1e-5) unless norm=none.
//
//   retention(decay=retnet|lightning, norm=head|none)              Sun et al. 2023, arXiv 2307.08621; Qin et al. 2024,
//     y_t = c sum_{s<=t} gamma_h^{t-s} (q_t.k_s) v_s               arXiv 2401.04658
//     retnet: gamma_h = 1 - 2^(-5-h); lightning: log gamma_h = -(8 / Hk) (1 - layer / layers) h. h counts KV heads.
//
//   gla(norm=head|none)                                            Yang et al. 2023, arXiv 2312.06635
//     S_t = diag(e^{g_t}) S_{t-1} + k_t v_t^T, y_t = c S_t^T q_t   g_t = log sigmoid(W x_t + b) / 16, per KV head and
//     channel, from the layer's input x_t. Parameters: gla.weight [Hk Dk, d], gla.bias [Hk Dk].
//
//   gated_delta(norm=head|none, conv=0, activation=silu|none)      Yang et al. 2024, arXiv 2412.06464
//     S_t = e^{g_t} S_{t-1} + k^_t u_t^T, u_t = b_t (v_t - e^{g_t} S_{t-1}^T k^_t), y_t = c S_t^T q^_t
//     b_t = sigmoid(w_b.x_t + b_b), g_t = -e^{a_h} log(1 + e^{w_a.x_t + b_a}); x^ = x / max(|x|, 1e-6).
//     Parameters: delta.weight [Hk 2, d] and delta.bias [Hk 2], rows b and a of each KV head, delta.a_log [Hk].
//     conv=W: q, k and v go through short convolutions first (short_convolution.h).
//
// Numerics: decays are sums of logarithms within a block of 16 rows, kept beside each row, so every exponential that
// is used is at most 1 and no product runs over the whole text. u is kept beside each row too: a node solves for its
// own by forward substitution along its path, and nobody solves again.
#pragma once

#include <memory>

#include "attention/operator.h"

namespace espalier {

std::unique_ptr<Mechanism> make_retention(const AttentionSpec& spec, const AttentionShape& shape);
std::unique_ptr<Mechanism> make_gla(const AttentionSpec& spec, const AttentionShape& shape);
std::unique_ptr<Mechanism> make_gated_delta(const AttentionSpec& spec, const AttentionShape& shape);

// The same with fold blocks of another size, for mechanisms that share its rows.
std::unique_ptr<Mechanism> make_gated_delta_block(const AttentionSpec& spec, const AttentionShape& shape,
                                                  int64_t block);

// log gamma of a KV head.
double retention_log_decay(const AttentionSpec& spec, const AttentionShape& shape, int kv_head);
// Whether heads end in a norm; checks the option.
bool has_head_norm(const AttentionSpec& spec);

inline constexpr double kHeadNormEps = 1e-5, kGateDivisor = 16.0;

}  // namespace espalier
