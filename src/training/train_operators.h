// Differentiable operators whose backward passes are written by hand, because autograd's own keep too much or
// compute it in too many passes over memory.
#pragma once

#include <ATen/core/Tensor.h>

namespace espalier {

// y = x (W + scale B A)^T for a frozen W: x [R, in], weight [out, in], lora_a [r, in], lora_b [out, r] -> [R, out].
// The sum is made for one product and dropped again, so the base has no second copy.
at::Tensor lora_linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& lora_a,
                       const at::Tensor& lora_b, double scale);

// x / sqrt(mean(x^2) + eps) * weight for a frozen weight: x [R, d], weight [d].
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);

// silu(gate) * up; keeps its two inputs only.
at::Tensor gated_silu(const at::Tensor& gate, const at::Tensor& up);

}  // namespace espalier
