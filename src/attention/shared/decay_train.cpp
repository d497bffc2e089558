#include <ATen/ATen.h>

#include <cmath>
#include <limits>

#include "attention/mechanisms_train.h"
#include "attention/shared/decay.h"

namespace espalier {
namespace {

// [B, H, n, C, D] rows of query heads beside their KV head: [B, Hk, H/Hk, n, C, D].
at::Tensor by_kv_head(const at::Tensor& x, int64_t heads_kv) {
  std::vector<int64_t> shape = x.sizes().vec();
  shape[1] = heads_kv;
  shape.insert(shape.begin() + 2, x.size(1) / heads_kv);
  return x.reshape(shape);
}

// y [B, Hk, H/Hk, n, C, Dv] -> [B, H, T, Dv], scaled, with the norm that ends a head.
at::Tensor finished(const at::Tensor& y, const AttentionSpec& spec, const TrainRows& rows,
                    const std::vector<at::Tensor>& parameters) {
  const at::Tensor heads = y.flatten(1, 2) / std::sqrt(static_cast<double>(rows.q.size(3)));  // [B, H, n, C, Dv]
  const at::Tensor out = ungrouped(heads, rows.q.size(2));
  if (!has_head_norm(spec)) return out;
  const at::Tensor root = (out.square().mean(-1, true) + kHeadNormEps).sqrt();
  return out / root * parameters.back().unsqueeze(1);
}

class TrainRetention : public TrainMechanism {
 public:
  TrainRetention(const AttentionSpec& spec, const AttentionShape& shape) : spec_(spec), shape_(shape) {}

  at::Tensor mix(const TrainRows& rows, const std::vector<at::Tensor>& parameters) const override {
    constexpr int64_t kChunk = 64;
    const int64_t heads_kv = rows.k.size(1);
    const at::Tensor q = by_kv_head(grouped(rows.q, kChunk), heads_kv);  // [B, Hk, R, n, C, D]
    const at::Tensor k = grouped(rows.k, kChunk), v = grouped(rows.v, kChunk);
    const int64_t chunks = k.size(2);
    std::vector<double> logs;
    for (int head = 0; head < heads_kv; ++head) logs.push_back(retention_log_decay(spec_, shape_, head));
    const auto options = at::TensorOptions().dtype(at::kDouble);
    const at::Tensor log = at::tensor(logs, options).view({-1, 1, 1});
    // gamma^n for n >= 0, 0 else: [Hk, …]
    const auto powers = [&](const at::Tensor& n) {
      return (log * n).exp().mul((n >= 0).to(at::kDouble)).to(q.scalar_type());
    };
    const at::Tensor row = at::arange(kChunk, options), chunk = at::arange(chunks, options);
    const at::Tensor inside = powers(row.view({-1, 1}) - row.view({1, -1}));                     // [Hk, C, C]
    const at::Tensor across = powers((chunk.view({-1, 1}) - chunk.view({1, -1}) - 1) * kChunk);  // [Hk, n, n]
    const at::Tensor since = powers((row + 1).view({-1, 1})), left = powers((kChunk - 1 - row).view({-1, 1}));
    const at::Tensor sums = at::matmul((k * left.unsqueeze(1)).transpose(-1, -2), v);  // [B, Hk, n, D, Dv]
    const at::Tensor before = at::matmul(across, sums.flatten(3)).view(sums.sizes());
    const at::Tensor weights =
        at::matmul(q, k.transpose(-1, -2).unsqueeze(2)) * inside.view({heads_kv, 1, 1, kChunk, kChunk});
    const at::Tensor y = at::matmul(weights, v.unsqueeze(2)) +
                         at::matmul(q * since.view({heads_kv, 1, 1, kChunk, 1}), before.unsqueeze(2));
    return finished(y, spec_, rows, parameters);
  }

 private:
  AttentionSpec spec_;
  AttentionShape shape_;
};

// Chunk by chunk, the state handed on.
class TrainGla : public TrainMechanism {
 public:
  explicit TrainGla(const AttentionSpec& spec) : spec_(spec) {}

  at::Tensor mix(const TrainRows& rows, const std::vector<at::Tensor>& parameters) const override {
    constexpr int64_t kChunk = 16;
    const int64_t heads_kv = rows.k.size(1), dim = rows.k.size(3), batch = rows.k.size(0);
    const at::Tensor gate = at::linear(rows.hidden, parameters[0], parameters[1]);  // [B, T, Hk D]
    const at::Tensor log = at::log_sigmoid(gate).view({batch, -1, heads_kv, dim}).transpose(1, 2) / kGateDivisor;
    const at::Tensor q = by_kv_head(grouped(rows.q, kChunk), heads_kv);  // [B, Hk, R, n, C, D]
    const at::Tensor k = grouped(rows.k, kChunk), v = grouped(rows.v, kChunk);
    const at::Tensor sums = grouped(log, kChunk).cumsum(3);  // [B, Hk, n, C, D]
    const at::Tensor total = sums.narrow(3, kChunk - 1, 1);
    // k_s e^{sums_t - sums_s} for s <= t: [B, Hk, n, C(t), C(s), D]
    const at::Tensor future = at::ones({kChunk, kChunk}, at::kBool).triu(1).unsqueeze(-1);
    const at::Tensor decay =
        (sums.unsqueeze(4) - sums.unsqueeze(3)).masked_fill(future, -std::numeric_limits<double>::infinity()).exp();
    const at::Tensor keys = k.unsqueeze(3) * decay;
    const at::Tensor weights = at::matmul(keys.unsqueeze(2), q.unsqueeze(-1)).squeeze(-1);  // [B, Hk, R, n, C(t), C(s)]
    const at::Tensor inside = at::matmul(weights, v.unsqueeze(2));
    const at::Tensor reading = q * sums.exp().unsqueeze(2);
    const at::Tensor written = at::matmul((k * (total - sums).exp()).transpose(-1, -2), v);  // [B, Hk, n, D, Dv]
    const at::Tensor kept = total.exp().transpose(-1, -2);                                   // [B, Hk, n, D, 1]
    at::Tensor state = at::zeros_like(written.select(2, 0));
    std::vector<at::Tensor> parts;
    for (int64_t n = 0; n < k.size(2); ++n) {
      parts.push_back(at::matmul(reading.select(3, n), state.unsqueeze(2)));  // [B, Hk, R, C, Dv]
      state = state * kept.select(2, n) + written.select(2, n);
    }
    return finished(inside + at::stack(parts, 3), spec_, rows, parameters);
  }

 private:
  AttentionSpec spec_;
};

// x [B, X, T, D] over the last taps of each channel, weight [X D, W], then SiLU.
at::Tensor short_convolution(const AttentionSpec& spec, const at::Tensor& x, const at::Tensor& weight) {
  const int64_t taps = weight.size(1), tokens = x.size(2);
  const at::Tensor padded = at::constant_pad_nd(x, {0, 0, taps - 1, 0});  // [B, X, W - 1 + T, D]
  const at::Tensor filters = weight.view({x.size(1), 1, x.size(3), taps});
  at::Tensor y = at::zeros_like(x);
  for (int64_t j = 0; j < taps; ++j) y = y + padded.narrow(2, j, tokens) * filters.select(3, j);
  return spec.value("activation", "silu") == "silu" ? at::silu(y) : y;
}

class TrainGatedDelta : public TrainMechanism {
 public:
  explicit TrainGatedDelta(const AttentionSpec& spec) : spec_(spec) {}

  at::Tensor mix(const TrainRows& all, const std::vector<at::Tensor>& parameters) const override {
    constexpr int64_t kChunk = 32;
    TrainRows rows = all;
    if (spec_.value("conv", "0") != "0") {
      rows.q = short_convolution(spec_, all.q, parameters[3]);
      rows.k = short_convolution(spec_, all.k, parameters[4]);
      rows.v = short_convolution(spec_, all.v, parameters[5]);
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
    return finished(at::stack(parts, 3), spec_, rows, parameters);
  }

 private:
  AttentionSpec spec_;
};

}  // namespace

std::unique_ptr<TrainMechanism> make_train_retention(const AttentionSpec& spec, const AttentionShape& shape) {
  return std::make_unique<TrainRetention>(spec, shape);
}

std::unique_ptr<TrainMechanism> make_train_gla(const AttentionSpec& spec, const AttentionShape&) {
  return std::make_unique<TrainGla>(spec);
}

std::unique_ptr<TrainMechanism> make_train_gated_delta(const AttentionSpec& spec, const AttentionShape&) {
  return std::make_unique<TrainGatedDelta>(spec);
}

}  // namespace espalier
