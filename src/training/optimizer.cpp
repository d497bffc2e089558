#include "training/optimizer.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cmath>

namespace espalier {
namespace {

constexpr double kBeta1 = 0.9, kBeta2 = 0.95, kEpsilon = 1e-8;

}  // namespace

Adam::Adam(std::vector<Parameter>& parameters) : parameters_(parameters) {
  reset();
}

void Adam::reset() {
  steps = 0;
  first.clear();
  second.clear();
  for (const Parameter& parameter : parameters_) {
    first.push_back(at::zeros_like(parameter.tensor.detach()));
    second.push_back(at::zeros_like(parameter.tensor.detach()));
  }
}

double Adam::clip(double limit) {
  double squares = 0.0;
  for (const Parameter& parameter : parameters_) {
    if (parameter.tensor.grad().defined()) squares += parameter.tensor.grad().square().sum().item<double>();
  }
  const double length = std::sqrt(squares);
  if (length > limit) {
    for (Parameter& parameter : parameters_) {
      if (parameter.tensor.grad().defined()) parameter.tensor.mutable_grad().mul_(limit / length);
    }
  }
  return length;
}

void Adam::step(const LearningRates& rates) {
  const at::NoGradGuard no_grad;
  ++steps;
  const double correction1 = 1.0 - std::pow(kBeta1, static_cast<double>(steps));
  const double correction2 = 1.0 - std::pow(kBeta2, static_cast<double>(steps));
  for (size_t i = 0; i < parameters_.size(); ++i) {
    at::Tensor& tensor = parameters_[i].tensor;
    const at::Tensor gradient = tensor.grad();
    if (!gradient.defined()) continue;
    first[i].mul_(kBeta1).add_(gradient, 1.0 - kBeta1);
    second[i].mul_(kBeta2).addcmul_(gradient, gradient, 1.0 - kBeta2);
    const double rate = parameters_[i].feature ? rates.feature : rates.weight;
    const at::Tensor divisor = (second[i] / correction2).sqrt_().add_(kEpsilon);
    tensor.addcdiv_(first[i], divisor, -rate / correction1);
    tensor.mutable_grad() = at::Tensor();
  }
}

}  // namespace espalier
