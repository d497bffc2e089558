#include <ATen/ATen.h>

#include "attention/shared/additive_train.h"

namespace espalier {

TrainHalf relu_train() {
  return {.features = [](const AttentionOptions&, const AttentionShape&) {
    return same_features([](const at::Tensor& x) { return x.relu(); });
  }};
}

}  // namespace espalier
