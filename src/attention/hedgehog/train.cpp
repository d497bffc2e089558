#include "attention/hedgehog/train.h"

#include <ATen/ATen.h>

#include "attention/hedgehog/hedgehog.h"
#include "attention/shared/additive_train.h"

namespace espalier {

at::Tensor train_hedgehog(const at::Tensor& x, const at::Tensor& weight) {
  const at::Tensor projected = at::matmul(x, weight);
  return at::cat({projected.softmax(-1), (-projected).softmax(-1)}, -1).clamp_min(kMinFeature);
}

TrainHalf hedgehog_train() {
  return {.features = [](const AttentionOptions&, const AttentionShape&) -> TrainFeatures {
    return [](const at::Tensor& q, const at::Tensor& k, const std::vector<at::Tensor>& parameters) {
      return std::pair(train_hedgehog(q, parameters[0]), train_hedgehog(k, parameters[1]));
    };
  }};
}

}  // namespace espalier
