#include "attention/gated_delta/train.h"

#include <ATen/ATen.h>

#include <limits>
#include <vector>

#include "attention/shared/decay_train.h"
#include "attention/shared/grouping_train.h"

namespace espalier {
namespace {

// x [B, X, T, D] over the last taps of each channel, weight [X D, W], then SiLU.
at::Tensor short_convolution(bool silu, const at::Tensor& x, const at::Tensor& weight) {
  const int64_t taps = weight.size(1), tokens = x.size(2);
  const at::Tensor padded = at::constant_pad_nd(x, {0, 0, taps - 1, 0});  // [B, X, W - 1 + T, D]
  const at::Tensor filters = weight.view({x.size(1), 1, x.size(3), taps});
  at::Tensor y = at::zeros_like(x);
  for (int64_t j = 0; j < taps; ++j) y = y + padded.narrow(2, j, tokens) * filters.select(3, j);
  return silu ? at::silu(y) : y;
}

class TrainGatedDelta : public TrainMechanism {
 public:
  explicit TrainGatedDelta(const GatedDeltaOptions& options) : options_(options) {}

  at::Tensor mix(const TrainRows& all, const std::vector<at::Tensor>& parameters) const override {
    constexpr int64_t kChunk = 32;
    TrainRows rows = all;
    if (options_.convolution.taps > 0) {
      const bool silu = options_.convolution.silu;
      rows.q = short_convolution(silu, all.q, parameters[3]);
      rows.k = short_convolution(silu, all.k, parameters[4]);
      rows.v = short_convolution(silu, all.v, parameters[5]);
    }
    const int64_t heads_kv = rows.k.size(1), batch = rows.k.size(0);
    const at::Tensor gates =
        at::linear(rows.hidden, parameters[0], parameters[1]).view({batch, -1, heads_kv, 2}).transpose(1, 2);
    const at::Tensor beta = gates.narrow(3, 0, 1).sigmoid();  // [B, Hk, T, 1]
    const at::Tensor log = -parameters[2].exp().view({1, -1, 1, 1}) * at::softplus(gates.narrow(3, 1, 1));
    const at::Tensor q = by_kv_head(grouped(normalised(rows.q), kChunk), heads_kv);  // [B, Hk, R, n, C, D]
    const at::Tensor k = grouped(normalised(rows.k), kChunk), v = grouped(rows.v, kChunk);
    const at::Tensor betas = grouped(beta, kChunk), sums = grouped(log, kChunk).cumsum(3);  // [B, Hk, n, C, 1]
    const at::Tensor total = sums.narrow(3, kChunk - 1, 1);
    const at::Tensor future = at::ones({kChunk, kChunk}, at::kBool).triu(1);
    const at::Tensor decay = (sums - sums.transpose(-1, -2))
                                 .masked_fill(future, -std::numeric_limits<double>::infinity())
                                 .exp();  // [B, Hk, n, C, C]
    // (I + L) u = beta (v - e^{sums} S^T k): L strictly below the diagonal
    const at::Tensor below = (betas * decay * at::matmul(k, k.transpose(-1, -2))).tril(-1);
    const at::Tensor system = below + at::eye(kChunk, k.options().requires_grad(false));
    const at::Tensor weights = at::matmul(q, k.transpose(-1, -2).unsqueeze(2)) * decay.unsqueeze(2);
    const at::Tensor since = sums.exp(), left = (total - sums).exp();
    at::Tensor state = at::zeros({batch, heads_kv, k.size(4), v.size(4)}, v.options().requires_grad(false));
    std::vector<at::Tensor> parts;
    for (int64_t n = 0; n < k.size(2); ++n) {
      const at::Tensor keys = k.select(2, n), fresh = since.select(2, n);
      const at::Tensor wanted = betas.select(2, n) * (v.select(2, n) - fresh * at::matmul(keys, state));
      const at::Tensor u =
          at::linalg_solve_triangular(system.select(2, n), wanted, false, true, true);  // [B, Hk, C, Dv]
      parts.push_back(at::matmul(weights.select(3, n), u.unsqueeze(2)) +
                      at::matmul(q.select(3, n) * fresh.unsqueeze(2), state.unsqueeze(2)));
      state = state * total.select(2, n).exp() + at::matmul((keys * left.select(2, n)).transpose(-1, -2), u);
    }
    return finished(at::stack(parts, 3), options_.norm, rows, parameters);
  }

 private:
  GatedDeltaOptions options_;
};

}  // namespace

std::unique_ptr<TrainMechanism> make_train_gated_delta(const GatedDeltaOptions& options) {
  return std::make_unique<TrainGatedDelta>(options);
}

TrainHalf gated_delta_train() {
  return {.make = [](const AttentionOptions& options, const AttentionShape&) {
    return make_train_gated_delta(GatedDeltaOptions::of(options));
  }};
}

}  // namespace espalier
