// hedgehog.h's features of whole sequences.
#pragma once

#include <ATen/core/Tensor.h>

namespace espalier {

// x [B, X, T, D], weight [X, D, F] -> [B, X, T, 2F]
at::Tensor train_hedgehog(const at::Tensor& x, const at::Tensor& weight);

}  // namespace espalier
