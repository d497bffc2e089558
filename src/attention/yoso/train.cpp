#include "attention/yoso/yoso.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <numbers>

#include "attention/mechanism_train.h"
#include "attention/shared/grouping_train.h"

namespace espalier {
namespace {

// Every pair of rows: hashing is a way to decode, and its gradient is that of the expectation anyway.
class TrainYoso : public TrainMechanism {
 public:
  explicit TrainYoso(const YosoOptions& options) : options_(options) {}

  at::Tensor mix(const TrainRows& rows, const std::vector<at::Tensor>& parameters) const override {
    const int64_t heads = rows.q.size(1), tokens = rows.q.size(2);
    const at::Tensor k = per_query_head(rows.k, heads), v = per_query_head(rows.v, heads);
    const at::Tensor cosine = at::matmul(normalised(rows.q), normalised(k).transpose(-1, -2)).clamp(-1, 1);
    const at::Tensor expected =
        at::pow(1 - at::acos(cosine * kYosoShrink) * std::numbers::inv_pi, static_cast<double>(options_.bits));
    const at::Tensor group = at::arange(tokens).div(options_.group, "floor");
    const at::Tensor older = group.view({1, -1}) < group.view({-1, 1});
    const at::Tensor past = at::ones({tokens, tokens}, at::kBool).tril();
    const at::Tensor hashed = at::where(older, collisions(rows.q, rows.k, parameters[0]), expected.detach());
    // The value of `hashed`, the gradient of `expected`.
    const at::Tensor weights = (hashed + (expected - expected.detach())) * past.to(v.scalar_type());
    const at::Tensor raw = at::matmul(weights, v);
    // A zero row's length has no gradient.
    return raw / raw.square().sum(-1, true).clamp_min(kYosoMinNorm * kYosoMinNorm).sqrt();
  }

 private:
  // The share of hashes under which a query and a key have one code: [B, H, T, T].
  at::Tensor collisions(const at::Tensor& q, const at::Tensor& k, const at::Tensor& weight) const {
    const at::NoGradGuard no_grad;
    const int64_t heads = q.size(1), hashes = options_.hashes;
    const at::Tensor powers = at::pow(2.0, at::arange(options_.bits, q.options()));
    const auto codes = [&](const at::Tensor& x, const at::Tensor& w) {  // [B, X, T, m]
      const at::Tensor bits = at::matmul(x, w.flatten(1, 2).transpose(-1, -2)) > 0;
      const at::Tensor grouped_bits = bits.view({x.size(0), x.size(1), x.size(2), hashes, options_.bits});
      return (grouped_bits.to(q.scalar_type()) * powers).sum(-1);
    };
    const at::Tensor of_heads = per_query_head(weight.unsqueeze(0), heads).squeeze(0);
    const at::Tensor code_q = codes(q, of_heads), code_k = per_query_head(codes(k, weight), heads);
    at::Tensor count = at::zeros({q.size(0), heads, q.size(2), k.size(2)}, q.options().requires_grad(false));
    for (int64_t j = 0; j < hashes; ++j) {
      count.add_(code_q.select(3, j).unsqueeze(-1).eq(code_k.select(3, j).unsqueeze(-2)).to(q.scalar_type()));
    }
    return count / static_cast<double>(hashes);
  }

  YosoOptions options_;
};

}  // namespace

TrainHalf yoso_train() {
  return {.make = [](const AttentionOptions& options, const AttentionShape&) {
    return std::make_unique<TrainYoso>(YosoOptions::of(options));
  }};
}

}  // namespace espalier
