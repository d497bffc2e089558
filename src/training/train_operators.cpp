#include "training/train_operators.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

namespace espalier {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

class LoraLinear : public torch::autograd::Function<LoraLinear> {
 public:
  static Variable forward(AutogradContext* context, const Variable& x, const Variable& weight, const Variable& a,
                          const Variable& b, double scale) {
    context->save_for_backward({x, weight, a, b});
    context->saved_data["scale"] = scale;
    return at::linear(x, merged(weight, a, b, scale));
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1], &a = saved[2], &b = saved[3];
    const double scale = context->saved_data["scale"].toDouble();
    const at::Tensor gradient = gradients[0].contiguous();  // [R, out]
    at::Tensor of_x, of_a, of_b;
    if (context->needs_input_grad(0)) of_x = at::mm(gradient, merged(weight, a, b, scale));
    if (context->needs_input_grad(2)) of_a = at::mm(at::mm(gradient, b).t(), x).mul_(scale);      // [r, in]
    if (context->needs_input_grad(3)) of_b = at::mm(gradient.t(), at::mm(x, a.t())).mul_(scale);  // [out, r]
    return {of_x, Variable(), of_a, of_b, Variable()};
  }

 private:
  static at::Tensor merged(const at::Tensor& weight, const at::Tensor& a, const at::Tensor& b, double scale) {
    return at::addmm(weight, b, a, 1.0, scale);
  }
};

class RmsNorm : public torch::autograd::Function<RmsNorm> {
 public:
  static Variable forward(AutogradContext* context, const Variable& x, const Variable& weight, double eps) {
    const at::Tensor inverse = x.square().mean(-1, true).add_(eps).rsqrt_();  // [R, 1]
    context->save_for_backward({x, weight, inverse});
    return (x * inverse).mul_(weight);
  }

  // With n = x r, r = 1 / sqrt(mean(x^2) + eps), g' = g w: dx = r (g' - n mean(g' n)).
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1], &inverse = saved[2];
    const at::Tensor scaled = gradients[0] * weight;
    const at::Tensor projection = (scaled * x).mean(-1, true).mul_(inverse).mul_(inverse);  // [R, 1]
    return {scaled.addcmul_(x, projection, -1.0).mul_(inverse), Variable(), Variable()};
  }
};

class GatedSilu : public torch::autograd::Function<GatedSilu> {
 public:
  static Variable forward(AutogradContext* context, const Variable& gate, const Variable& up) {
    context->save_for_backward({gate, up});
    return at::silu(gate).mul_(up);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &gate = saved[0], &up = saved[1];
    const at::Tensor of_up = at::silu(gate).mul_(gradients[0]);
    return {at::silu_backward(gradients[0] * up, gate), of_up};
  }
};

}  // namespace

at::Tensor lora_linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& lora_a,
                       const at::Tensor& lora_b, double scale) {
  return LoraLinear::apply(x, weight, lora_a, lora_b, scale);
}

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  return RmsNorm::apply(x, weight, eps);
}

at::Tensor gated_silu(const at::Tensor& gate, const at::Tensor& up) {
  return GatedSilu::apply(gate, up);
}

}  // namespace espalier
