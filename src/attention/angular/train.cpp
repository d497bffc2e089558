#include <ATen/ATen.h>

#include <cmath>
#include <numbers>

#include "attention/shared/additive_train.h"
#include "attention/shared/grouping_train.h"

namespace espalier {

TrainHalf angular_train() {
  return {.features = [](const AttentionOptions&, const AttentionShape&) {
    return same_features([](const at::Tensor& x) {
      const at::Tensor constant = at::full_like(x.detach().narrow(-1, 0, 1), std::numbers::sqrt2 / 2);
      return at::cat({constant, normalised(x) * std::sqrt(std::numbers::inv_pi)}, -1);
    });
  }};
}

}  // namespace espalier
