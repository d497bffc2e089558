// `gated_delta(norm=head|none, conv=0, activation=silu|none)`: the gated delta rule (Yang et al. 2024, arXiv
// 2412.06464). Hk states of Dk x Dv, shared by the query heads of a KV head; c = 1 / sqrt(Dk), x^ = x / max(|x|, 1e-6).
//
//   S_t = e^{g_t} S_{t-1} + k^_t u_t^T, u_t = b_t (v_t - e^{g_t} S_{t-1}^T k^_t), y_t = c S_t^T q^_t
//   b_t = sigmoid(w_b.x_t + b_b), g_t = -e^{a_h} log(1 + e^{w_a.x_t + b_a}) from the layer's input x_t
//
// Then the norm of shared/head_norm.h. conv=W: q, k and v go through short convolutions first
// (shared/short_convolution.h). Parameters: delta.weight [Hk 2, d] and delta.bias [Hk 2], rows b and a of each KV head,
// delta.a_log [Hk].
//
// Numerics: decays are sums of logarithms within a block of rows (shared/block_decay.h). u is kept beside each row,
// too: a node solves for its own by forward substitution along its path, and nobody solves again.
#pragma once

#include <memory>

#include "attention/operator.h"
#include "attention/shared/additive.h"
#include "attention/shared/short_convolution.h"

namespace espalier {

struct GatedDeltaOptions {
  bool norm = true;
  ShortConvolutionOptions convolution = {};
  int64_t block = kFoldBlock;  // another size for mechanisms that share its rows

  static GatedDeltaOptions of(const AttentionOptions& options);
};
std::unique_ptr<Mechanism> make_gated_delta(const GatedDeltaOptions& options, const AttentionShape& shape);

}  // namespace espalier
