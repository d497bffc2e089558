#include <ATen/ATen.h>

#include <cmath>

#include "attention/shared/additive_train.h"
#include "attention/shared/random_maps.h"

namespace espalier {
namespace {

using Pair = std::pair<at::Tensor, at::Tensor>;

}  // namespace

TrainAdditiveForm make_train_performer_form(const AttentionSpec& spec, const AttentionShape& shape) {
  const PerformerOptions options = PerformerOptions::of(spec, shape);
  const auto map = [options](const at::Tensor& x, const at::Tensor& weight) {
    const at::Tensor scaled = x * std::pow(static_cast<double>(x.size(3)), -0.25);
    const at::Tensor u = at::matmul(scaled, weight.t());  // [B, X, T, directions]
    const at::Tensor shift =
        (scaled * scaled).sum(-1, true) * 0.5 + 0.5 * std::log(static_cast<double>(options.features));
    return options.hyperbolic ? at::cat({(u - shift).exp(), (-u - shift).exp()}, -1) : (u - shift).exp();
  };
  return {.map = [map](const at::Tensor& q, const at::Tensor& k,
                       const std::vector<at::Tensor>& p) { return Pair(map(q, p[0]), map(k, p[0])); },
          .denominator = make_performer_form(spec, shape).denominator};
}

TrainAdditiveForm make_train_rfa_form(const AttentionSpec& spec, const AttentionShape& shape) {
  // weight [X, P, D], sigma [X, D]
  const auto map = [](const at::Tensor& x, const at::Tensor& weight, const at::Tensor& sigma) {
    const at::Tensor squares = (x * x).sum(-1, true).clamp_min(1e-30);  // a zero row's length has no gradient
    const at::Tensor unit = x / (squares.sqrt() + kRfaNorm);
    const at::Tensor u = at::matmul(unit * sigma.unsqueeze(1), weight.transpose(-1, -2));
    return at::cat({u.sin(), u.cos()}, -1) * kRfaScale;
  };
  return {.map =
              [map](const at::Tensor& q, const at::Tensor& k, const std::vector<at::Tensor>& p) {
                const auto of_heads = [&](const at::Tensor& x) {
                  return per_query_head(x.unsqueeze(0), q.size(1)).squeeze(0);
                };
                return Pair(map(q, of_heads(p[0]), of_heads(p[1])), map(k, p[0], p[1]));
              },
          .denominator = make_rfa_form(spec, shape).denominator};
}

}  // namespace espalier
