#include <ATen/ATen.h>

#include "attention/rfa/rfa.h"
#include "attention/shared/additive_train.h"
#include "attention/shared/grouping_train.h"

namespace espalier {
namespace {

// weight [X, P, D], sigma [X, D]
at::Tensor features(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& sigma) {
  const at::Tensor squares = (x * x).sum(-1, true).clamp_min(1e-30);  // a zero row's length has no gradient
  const at::Tensor unit = x / (squares.sqrt() + kRfaNorm);
  const at::Tensor u = at::matmul(unit * sigma.unsqueeze(1), weight.transpose(-1, -2));
  return at::cat({u.sin(), u.cos()}, -1) * kRfaScale;
}

}  // namespace

TrainHalf rfa_train() {
  return {.features = [](const AttentionOptions&, const AttentionShape&) -> TrainFeatures {
    return [](const at::Tensor& q, const at::Tensor& k, const std::vector<at::Tensor>& p) {
      const auto of_heads = [&](const at::Tensor& x) { return per_query_head(x.unsqueeze(0), q.size(1)).squeeze(0); };
      return std::pair(features(q, of_heads(p[0]), of_heads(p[1])), features(k, p[0], p[1]));
    };
  }};
}

}  // namespace espalier
