#include <ATen/ATen.h>

#include <limits>
#include <vector>

#include "attention/gla/gla.h"
#include "attention/shared/decay_train.h"
#include "attention/shared/grouping_train.h"
#include "attention/shared/head_norm.h"

namespace espalier {
namespace {

// Chunk by chunk, the state handed on.
class TrainGla : public TrainMechanism {
 public:
  explicit TrainGla(bool norm) : norm_(norm) {}

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
    return finished(inside + at::stack(parts, 3), norm_, rows, parameters);
  }

 private:
  bool norm_;
};

}  // namespace

TrainHalf gla_train() {
  return {.make = [](const AttentionOptions& options, const AttentionShape&) {
    return std::make_unique<TrainGla>(has_head_norm(options));
  }};
}

}  // namespace espalier
