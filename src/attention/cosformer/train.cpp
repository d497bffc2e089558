#include <ATen/ATen.h>

#include <numbers>

#include "attention/shared/additive_train.h"

namespace espalier {

TrainHalf cosformer_train() {
  return {.features = [](const AttentionOptions& options, const AttentionShape&) {
    const double step = std::numbers::pi / 2 / static_cast<double>(options.integer_or("length", 0));
    return same_features([step](const at::Tensor& x) {
      const at::Tensor angle = (at::arange(x.size(2), at::kDouble) + 1).mul(step).view({-1, 1});
      const auto times = [&](const at::Tensor& factor) { return x.relu() * factor.to(x.scalar_type()); };
      return at::cat({times(angle.sin()), times(angle.cos())}, -1);
    });
  }};
}

}  // namespace espalier
