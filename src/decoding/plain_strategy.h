// One token per step.
#pragma once

#include "decoding/strategy.h"

namespace espalier {

class PlainStrategy : public Strategy {
 public:
  void observe(int32_t) override {}
  void plan(int32_t root, const PlanLimits&, DraftTree& tree) override { tree.reset(root); }
  void learn(const DraftTree&, std::span<const int32_t>, std::span<const int32_t>) override {}
};

}  // namespace espalier
