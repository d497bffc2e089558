// torch's own Adam and limit on gradients over the parameters of one of our trainings: what our loops are measured
// against.
#pragma once

#include <ATen/ATen.h>

#include <memory>
#include <vector>

namespace espalier::testing {

class PlainOptimizer {
 public:
  // Of two kinds of parameters with a rate each.
  PlainOptimizer(std::vector<at::Tensor> features, std::vector<at::Tensor> weights);
  ~PlainOptimizer();

  // Limits the common length of all gradients (0: does not), takes a step with them and clears them. Returns their
  // length before.
  double step(double feature_rate, double weight_rate, double limit);

 private:
  struct Torch;
  std::unique_ptr<Torch> torch_;
};

}  // namespace espalier::testing
