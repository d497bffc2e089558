// Adam and the limit on gradients against torch's own.
#include "training/optimizer.h"

#include <gtest/gtest.h>
#include <torch/nn/utils/clip_grad.h>
#include <torch/optim/adam.h>

#include <cmath>

namespace espalier {
namespace {

// Gradients of sizes from where epsilon is all that counts to where it is nothing.
const std::vector<std::vector<int64_t>> kShapes = {{3}, {4, 5}, {}, {1, 7}, {2, 3, 4}, {6}};
constexpr double kScales[] = {1.0, 1e-3, 30.0, 1e-8, 1e3, 1e-10};

std::vector<Parameter> some_parameters() {
  at::manual_seed(5);
  std::vector<Parameter> parameters;
  for (size_t i = 0; i < kShapes.size(); ++i) {
    parameters.push_back({.name = std::to_string(i), .tensor = at::randn(kShapes[i]), .feature = i % 2 == 1});
    parameters.back().tensor.set_requires_grad(true);
  }
  return parameters;
}

std::vector<at::Tensor> copies(const std::vector<Parameter>& parameters) {
  std::vector<at::Tensor> result;
  for (const Parameter& parameter : parameters) result.push_back(parameter.tensor.detach().clone());
  return result;
}

void give_gradients(std::vector<at::Tensor>& tensors, const std::vector<at::Tensor>& gradients) {
  for (size_t i = 0; i < tensors.size(); ++i) {
    tensors[i].mutable_grad() = gradients[i].defined() ? gradients[i].clone() : at::Tensor();
  }
}

void give_gradients(std::vector<Parameter>& parameters, const std::vector<at::Tensor>& gradients) {
  std::vector<at::Tensor> tensors;
  for (Parameter& parameter : parameters) tensors.push_back(parameter.tensor);
  give_gradients(tensors, gradients);
}

std::vector<at::Tensor> random_gradients(int64_t step) {
  at::manual_seed(100 + static_cast<uint64_t>(step));
  std::vector<at::Tensor> gradients;
  for (size_t i = 0; i < kShapes.size(); ++i) gradients.push_back(at::randn(kShapes[i]) * kScales[i]);
  gradients[2] = at::Tensor();  // one that nothing depends on
  return gradients;
}

TEST(Adam, EqualsTorchsOverManySteps) {
  std::vector<Parameter> parameters = some_parameters();
  const std::vector<at::Tensor> first = copies(parameters);
  std::vector<at::Tensor> features, weights, all = copies(parameters);
  for (size_t i = 0; i < all.size(); ++i) {
    all[i].set_requires_grad(true);
    (parameters[i].feature ? features : weights).push_back(all[i]);
  }
  torch::optim::AdamOptions defaults;
  defaults.betas({0.9, 0.95}).eps(1e-8).weight_decay(0);
  torch::optim::Adam expected(
      std::vector<torch::optim::OptimizerParamGroup>{torch::optim::OptimizerParamGroup(features),
                                                     torch::optim::OptimizerParamGroup(weights)},
      defaults);
  Adam adam(parameters);
  for (int64_t step = 0; step < 80; ++step) {
    // Rates that change, of one kind at times 0.
    const LearningRates rates{.feature = 0.02 / static_cast<double>(1 + step % 7),
                              .weight = step % 5 == 4 ? 0.0 : 3e-3};
    expected.param_groups()[0].options().set_lr(rates.feature);
    expected.param_groups()[1].options().set_lr(rates.weight);
    const std::vector<at::Tensor> gradients = random_gradients(step);
    give_gradients(parameters, gradients);
    give_gradients(all, gradients);
    adam.step(rates);
    expected.step();
    EXPECT_EQ(adam.steps, step + 1);
    for (size_t i = 0; i < all.size(); ++i) {
      ASSERT_FALSE(parameters[i].tensor.grad().defined());
      // Either adds up f32 numbers of about the distance gone.
      const double gone = (all[i] - first[i]).abs().max().item<double>();
      const double error = (parameters[i].tensor - all[i]).abs().max().item<double>();
      ASSERT_LE(error, 1e-6 + 1e-5 * gone) << "step " << step << " parameter " << i;
      if (i != 2 && step > 20) {
        ASSERT_GT(gone, i == 5 ? 1e-5 : 1e-3) << i;
      }  // there is something to compare
    }
    ASSERT_TRUE(parameters[2].tensor.equal(first[2]));
  }
}

// The step that a mistake in the correction of the moments would show first: rate x sign of the gradient.
TEST(Adam, BeginsWithAStepOfTheRate) {
  std::vector<Parameter> parameters = some_parameters();
  const std::vector<at::Tensor> first = copies(parameters);
  Adam adam(parameters);
  std::vector<at::Tensor> gradients = random_gradients(1);
  give_gradients(parameters, gradients);
  adam.step({.feature = 0.25, .weight = 0.5});
  for (const size_t i : {0, 1, 4}) {
    const at::Tensor expected = first[i] - gradients[i].sign() * (parameters[i].feature ? 0.25 : 0.5);
    EXPECT_LT((parameters[i].tensor - expected).abs().max().item<double>(), 1e-3) << i;
  }
}

TEST(Adam, AfterAResetIsAFreshOne) {
  std::vector<Parameter> used = some_parameters(), fresh = some_parameters();
  Adam adam(used);
  for (int64_t step = 0; step < 9; ++step) {
    give_gradients(used, random_gradients(step));
    adam.step({});
  }
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < used.size(); ++i) used[i].tensor.copy_(fresh[i].tensor);
  adam.reset();
  EXPECT_EQ(adam.steps, 0);
  Adam other(fresh);
  for (int64_t step = 20; step < 25; ++step) {
    give_gradients(used, random_gradients(step));
    give_gradients(fresh, random_gradients(step));
    adam.step({});
    other.step({});
    for (size_t i = 0; i < used.size(); ++i) ASSERT_TRUE(used[i].tensor.equal(fresh[i].tensor)) << step << " " << i;
  }
}

// Bits: what run_state.h saves is all that there is.
TEST(Adam, GoesOnFromItsMomentsAndSteps) {
  std::vector<Parameter> whole = some_parameters(), parts = some_parameters();
  Adam one(whole), first(parts);
  for (int64_t step = 0; step < 12; ++step) {
    give_gradients(whole, random_gradients(step));
    one.step({});
  }
  for (int64_t step = 0; step < 5; ++step) {
    give_gradients(parts, random_gradients(step));
    first.step({});
  }
  Adam second(parts);
  second.steps = first.steps;
  for (size_t i = 0; i < parts.size(); ++i) {
    second.first[i].copy_(first.first[i]);
    second.second[i].copy_(first.second[i]);
  }
  for (int64_t step = 5; step < 12; ++step) {
    give_gradients(parts, random_gradients(step));
    second.step({});
  }
  for (size_t i = 0; i < parts.size(); ++i) EXPECT_TRUE(parts[i].tensor.equal(whole[i].tensor)) << i;
}

TEST(Clip, ScalesAllGradientsByTheirCommonLengthAsTorchDoes) {
  for (const double limit : {1e-3, 0.5, 1.0, 30.0, 1e3, 5e3, 1e4, HUGE_VAL}) {
    std::vector<Parameter> parameters = some_parameters();
    std::vector<at::Tensor> expected = copies(parameters);
    const std::vector<at::Tensor> gradients = random_gradients(3);
    give_gradients(parameters, gradients);
    give_gradients(expected, gradients);
    double squares = 0;
    for (const at::Tensor& gradient : gradients) {
      if (gradient.defined()) squares += gradient.to(at::kDouble).square().sum().item<double>();
    }
    const double length = Adam(parameters).clip(limit);
    torch::nn::utils::clip_grad_norm_(expected, limit);
    EXPECT_NEAR(length, std::sqrt(squares), 1e-6 * length);
    double left = 0;
    for (size_t i = 0; i < parameters.size(); ++i) {
      ASSERT_EQ(parameters[i].tensor.grad().defined(), gradients[i].defined());
      if (!gradients[i].defined()) continue;
      const at::Tensor got = parameters[i].tensor.grad();
      const double scale = gradients[i].abs().max().item<double>() * std::min(1.0, limit / length);
      EXPECT_LE((got - expected[i].grad()).abs().max().item<double>(), 2e-6 * scale + 1e-6 * scale / limit) << limit;
      if (length <= limit) {
        EXPECT_TRUE(got.equal(gradients[i])) << limit;
      }
      left += got.to(at::kDouble).square().sum().item<double>();
    }
    EXPECT_NEAR(std::sqrt(left), std::min(length, limit), 1e-5 * length) << limit;
    if (limit < length) {
      EXPECT_NEAR(std::sqrt(left) / limit, 1.0, 1e-5);
    }
  }
}

TEST(Clip, LeavesALengthOfExactlyTheLimit) {
  for (const double limit : {5.0, std::nextafter(5.0, 0.0), 4.0}) {
    std::vector<Parameter> parameters = {{.name = "a", .tensor = at::zeros({2})},
                                         {.name = "b", .tensor = at::zeros({1})}};
    give_gradients(parameters, {at::tensor({3.0f, 0.0f}), at::tensor({-4.0f})});
    EXPECT_EQ(Adam(parameters).clip(limit), 5.0);
    const float a = parameters[0].tensor.grad()[0].item<float>(), b = parameters[1].tensor.grad()[0].item<float>();
    if (limit == 4.0) {
      EXPECT_FLOAT_EQ(a, 2.4f);
      EXPECT_FLOAT_EQ(b, -3.2f);
    } else {
      EXPECT_FLOAT_EQ(a, 3.0f);
      EXPECT_FLOAT_EQ(b, -4.0f);
    }
  }
  std::vector<Parameter> none = {{.name = "a", .tensor = at::zeros({2})}};
  give_gradients(none, {at::zeros({2})});
  EXPECT_EQ(Adam(none).clip(1.0), 0.0);
  EXPECT_TRUE(none[0].tensor.grad().equal(at::zeros({2})));
}

}  // namespace
}  // namespace espalier
