// The filter of conv.h over whole sequences.
#pragma once

#include <ATen/core/Tensor.h>

namespace espalier {

// v [B, Hk, T, Dv], weight [H, W] -> [B, H, T, Dv]; both ways [H, 2 W - 1].
at::Tensor train_conv(const at::Tensor& v, const at::Tensor& weight, bool both_ways = false);

}  // namespace espalier
