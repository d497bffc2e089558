#include <ATen/ATen.h>

#include "attention/hedgehog/hedgehog.h"
#include "attention/mechanisms_train.h"
#include "attention/shared/additive_train.h"

namespace espalier {

at::Tensor train_hedgehog(const at::Tensor& x, const at::Tensor& weight) {
  const at::Tensor projected = at::matmul(x, weight);
  return at::cat({projected.softmax(-1), (-projected).softmax(-1)}, -1).clamp_min(kMinFeature);
}

TrainAdditiveForm make_train_hedgehog_form(const AttentionSpec& spec, const AttentionShape& shape) {
  return {.map =
              [](const at::Tensor& q, const at::Tensor& k, const std::vector<at::Tensor>& parameters) {
                return std::pair(train_hedgehog(q, parameters[0]), train_hedgehog(k, parameters[1]));
              },
          .denominator = make_hedgehog_form(spec, shape).denominator};
}

}  // namespace espalier
