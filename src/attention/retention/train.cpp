#include <ATen/ATen.h>

#include <vector>

#include "attention/retention/retention.h"
#include "attention/shared/decay_train.h"
#include "attention/shared/grouping_train.h"

namespace espalier {
namespace {

class TrainRetention : public TrainMechanism {
 public:
  TrainRetention(const RetentionOptions& options, const AttentionShape& shape) : options_(options), shape_(shape) {}

  at::Tensor mix(const TrainRows& rows, const std::vector<at::Tensor>& parameters) const override {
    constexpr int64_t kChunk = 64;
    const int64_t heads_kv = rows.k.size(1);
    const at::Tensor q = by_kv_head(grouped(rows.q, kChunk), heads_kv);  // [B, Hk, R, n, C, D]
    const at::Tensor k = grouped(rows.k, kChunk), v = grouped(rows.v, kChunk);
    const int64_t chunks = k.size(2);
    std::vector<double> logs;
    for (int head = 0; head < heads_kv; ++head) logs.push_back(options_.log_decay(shape_, head));
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
    return finished(y, options_.norm, rows, parameters);
  }

 private:
  RetentionOptions options_;
  AttentionShape shape_;
};

}  // namespace

TrainHalf retention_train() {
  return {.make = [](const AttentionOptions& options, const AttentionShape& shape) {
    return std::make_unique<TrainRetention>(RetentionOptions::of(options), shape);
  }};
}

}  // namespace espalier
