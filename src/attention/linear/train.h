// linear.h's features of whole sequences.
#pragma once

#include <ATen/core/Tensor.h>

namespace espalier {

at::Tensor train_elu_plus_one(const at::Tensor& x);

}  // namespace espalier
