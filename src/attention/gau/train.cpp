#include <ATen/ATen.h>

#include <cmath>

#include "attention/conv/train.h"
#include "attention/gau/gau.h"
#include "attention/mechanism_train.h"
#include "attention/shared/grouping_train.h"
#include "attention/shared/min_norm.h"

namespace espalier {
namespace {

at::Tensor activated(Activation f, const at::Tensor& x) {
  if (f == Activation::kReluSquared) return x.relu().square();
  return 0.5 * at::erfc((std::sqrt(0.5) - x) * std::sqrt(2.0 * M_PI));
}

class TrainGau : public TrainMechanism {
 public:
  TrainGau(const GauOptions& options, const AttentionShape& shape)
      : options_(options), near_(shape.dim_k / 2), far_(shape.dim_k - near_) {}

  at::Tensor mix(const TrainRows& rows, const std::vector<at::Tensor>& parameters) const override {
    at::Tensor sum;
    const auto add = [&](const at::Tensor& part) { sum = sum.defined() ? sum + part : part; };
    if (options_.global) add(global(rows));
    if (options_.local) add(local(rows));
    if (options_.castling) {
      const at::Tensor x = 0.5 * per_query_head(rows.v, rows.q.size(1)) + sum / M_PI;
      sum = x / x.square().sum(-1, true).sqrt().clamp_min(kMinNorm);
    }
    if (options_.taps > 0) add(train_conv(rows.v, parameters[0]));
    return sum;
  }

 private:
  at::Tensor global(const TrainRows& rows) const {
    const at::Tensor q = rows.q.narrow(3, near_, far_), k = rows.k.narrow(3, near_, far_);
    if (rows.span) {
      const at::Tensor sums = at::matmul(k.transpose(-1, -2), rows.v) / rows.k.size(2);  // [B, Hk, far, Dv]
      return at::matmul(q, per_query_head(sums, q.size(1)));
    }
    const at::Tensor queries = grouped_queries(q, k.size(1), options_.group);  // [B, Hk, n, H/Hk * G, far]
    const at::Tensor sums = at::matmul(grouped(k, options_.group).transpose(-1, -2), grouped(rows.v, options_.group));
    const at::Tensor closed = summed_before(sums, 1) / options_.group;  // [B, Hk, n, far, Dv]
    return ungrouped_queries(at::matmul(queries, closed), q.size(1), q.size(2));
  }

  at::Tensor local(const TrainRows& rows) const {
    const int64_t heads = rows.q.size(1), heads_kv = rows.k.size(1), tokens = rows.q.size(2), group = options_.group;
    const at::Tensor queries = grouped_queries(rows.q.narrow(3, 0, near_), heads_kv, group);
    const at::Tensor keys = grouped(rows.k.narrow(3, 0, near_), group);
    at::Tensor scores = at::matmul(queries, keys.transpose(-1, -2)) / group;  // [B, Hk, n, H/Hk * G, G]
    if (rows.bias.defined()) {
      scores = scores + spread_bias(rows.bias, group, group, 0).view({heads_kv, 1, heads / heads_kv * group, group});
    }
    at::Tensor weights = activated(options_.activation, scores);
    // Rows after the text have values of zero; only the future must go.
    if (!rows.span)
      weights = weights *
                at::ones({group, group}, rows.q.options().requires_grad(false)).tril().repeat({heads / heads_kv, 1});
    return ungrouped_queries(at::matmul(weights, grouped(rows.v, group)), heads, tokens);
  }

  GauOptions options_;
  int64_t near_, far_;
};

}  // namespace

TrainHalf gau_train() {
  return {.make = [](const AttentionOptions& options, const AttentionShape& shape) {
    return std::make_unique<TrainGau>(GauOptions::of(options), shape);
  }};
}

}  // namespace espalier
