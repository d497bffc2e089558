// Drafts merged into one tree per step, sized by what a step costs (docs/derivations/speculation.md).
#pragma once

#include <memory>
#include <vector>

#include "decoding/acceptance_rates.h"
#include "decoding/drafters/drafter.h"
#include "decoding/speculation_options.h"
#include "decoding/strategy.h"
#include "decoding/tree_cost.h"

namespace espalier {

class TreeStrategy : public Strategy {
 public:
  // `cost` and `rates` are shared by the sequences of an engine and outlive this.
  TreeStrategy(const SpeculationOptions& options, std::vector<std::unique_ptr<Drafter>> drafters, const StepCost& cost,
               AcceptanceRates& rates, int64_t vocab_size);

  void observe(int32_t token) override;
  void see(const float* hidden) override;
  void plan(int32_t root, const PlanLimits& limits, DraftTree& tree) override;
  void learn(const DraftTree& tree, std::span<const int32_t> path, std::span<const int32_t> chosen) override;

 private:
  void size_by_cost(const PlanLimits& limits, DraftTree& tree);

  int64_t tree_nodes_, draft_depth_, vocab_size_;
  std::vector<std::unique_ptr<Drafter>> drafters_;
  const StepCost& cost_;
  AcceptanceRates& rates_;
  int64_t steps_alone_ = 0;  // since the last tree, although there were drafts
  int64_t steps_with_tree_ = 0;
  int64_t barren_ = 0;  // steps of one node since the last tree
};

}  // namespace espalier
