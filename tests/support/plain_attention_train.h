// Attention mechanisms as their definitions read, in f64: every pair of rows, one mask each, no groups of work.
// Autograd through them judges the gradients of the training half.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "attention/mechanism_train.h"

namespace espalier::testing {

// Parameters in the mechanism's order, all f64 -> [B, H, T, D]. Undefined for a mechanism that is none of these.
at::Tensor plain_attention(const std::string& spec, const TrainRows& rows, const std::vector<at::Tensor>& parameters);

}  // namespace espalier::testing
