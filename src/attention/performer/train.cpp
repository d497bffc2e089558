#include <ATen/ATen.h>

#include <cmath>

#include "attention/performer/performer.h"
#include "attention/shared/additive_train.h"

namespace espalier {

TrainHalf performer_train() {
  return {.features = [](const AttentionOptions& given, const AttentionShape& shape) -> TrainFeatures {
    const PerformerOptions options = PerformerOptions::of(given, shape);
    const auto map = [options](const at::Tensor& x, const at::Tensor& weight) {
      const at::Tensor scaled = x * std::pow(static_cast<double>(x.size(3)), -0.25);
      const at::Tensor u = at::matmul(scaled, weight.t());  // [B, X, T, directions]
      const at::Tensor shift =
          (scaled * scaled).sum(-1, true) * 0.5 + 0.5 * std::log(static_cast<double>(options.features));
      return options.hyperbolic ? at::cat({(u - shift).exp(), (-u - shift).exp()}, -1) : (u - shift).exp();
    };
    return [map](const at::Tensor& q, const at::Tensor& k, const std::vector<at::Tensor>& p) {
      return std::pair(map(q, p[0]), map(k, p[0]));
    };
  }};
}

}  // namespace espalier
