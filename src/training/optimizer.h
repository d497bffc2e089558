// Adam (Kingma & Ba 2015) without weight decay, as a struct whose whole state can be saved.
#pragma once

#include <vector>

#include "training/student.h"

namespace espalier {

struct LearningRates {
  double feature = 1e-2;  // parameters of the mechanism
  double weight = 1e-3;   // LoRA
};

class Adam {
 public:
  explicit Adam(std::vector<Parameter>& parameters);

  // Scales all gradients so that their common length is at most `limit`; returns the length before.
  double clip(double limit);
  // One step with the gradients that are there, then clears them. A parameter without a gradient stays.
  void step(const LearningRates& rates);
  // Forgets the moments (a new stage begins).
  void reset();

  int64_t steps = 0;
  std::vector<at::Tensor> first, second;  // moments, beside the parameters

 private:
  std::vector<Parameter>& parameters_;
};

}  // namespace espalier
