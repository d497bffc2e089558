// Attention mechanisms as their definitions read, in f64: every pair of rows, one mask each, no groups of work.
// Autograd through them judges the gradients of the training half.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

namespace espalier::testing {

// q [B, H, T, D], k and v [B, Hk, T, D], parameters in the mechanism's order, all f64 -> [B, H, T, D].
at::Tensor plain_attention(const std::string& spec, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                           const std::vector<at::Tensor>& parameters);

}  // namespace espalier::testing
