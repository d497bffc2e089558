#include "support/plain_optimizer_train.h"

#include <torch/nn/utils/clip_grad.h>
#include <torch/optim/adam.h>

#include <limits>

namespace espalier::testing {
namespace {

using Group = torch::optim::OptimizerParamGroup;

torch::optim::AdamOptions adam_options() {
  torch::optim::AdamOptions options;
  options.betas({0.9, 0.95}).eps(1e-8).weight_decay(0);
  return options;
}

}  // namespace

struct PlainOptimizer::Torch {
  std::vector<at::Tensor> all;
  torch::optim::Adam adam;
};

PlainOptimizer::PlainOptimizer(std::vector<at::Tensor> features, std::vector<at::Tensor> weights) {
  std::vector<at::Tensor> all = features;
  all.insert(all.end(), weights.begin(), weights.end());
  torch_.reset(new Torch{std::move(all),
                         torch::optim::Adam(std::vector<Group>{Group(features), Group(weights)}, adam_options())});
}

PlainOptimizer::~PlainOptimizer() = default;

double PlainOptimizer::step(double feature_rate, double weight_rate, double limit) {
  const double most = limit > 0 ? limit : std::numeric_limits<double>::infinity();
  const double length = torch::nn::utils::clip_grad_norm_(torch_->all, most);
  torch_->adam.param_groups()[0].options().set_lr(feature_rate);
  torch_->adam.param_groups()[1].options().set_lr(weight_rate);
  torch_->adam.step();
  torch_->adam.zero_grad(/*set_to_none=*/true);
  return length;
}

}  // namespace espalier::testing
