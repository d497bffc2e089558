#include "decoding/tree_strategy.h"

#include <algorithm>

#include "core/error.h"
#include "decoding/drafters/merge.h"

namespace espalier {
namespace {

// Trees chosen by cost have at most this many nodes.
constexpr int64_t kMaxSizedNodes = 32;
// While trees do not pay, a small one now and then shows whether that has changed.
constexpr int64_t kStepsBetweenProbes = 32, kProbeNodes = 4;
// Steps of one node after which drafters whose guesses take time are asked at each step of that number only.
constexpr int64_t kPatience = 8;

// Fills up to `nodes` with children of the root that nobody proposed: a step of that size is to be timed.
void pad(DraftTree& tree, int64_t nodes, int64_t vocab_size) {
  for (int32_t token = 0; tree.size() < nodes && token < vocab_size; ++token) {
    if (tree.child(0, token) < 0) tree.add(token, 0, 0.0, -1);
  }
}

}  // namespace

TreeStrategy::TreeStrategy(const SpeculationOptions& options, std::vector<std::unique_ptr<Drafter>> drafters,
                           const StepCost& cost, AcceptanceRates& rates, int64_t vocab_size)
    : tree_nodes_(options.tree_nodes),
      draft_depth_(options.draft_depth),
      vocab_size_(vocab_size),
      drafters_(std::move(drafters)),
      cost_(cost),
      rates_(rates) {
  options.check();
  ESPALIER_CHECK(drafters_.size() <= AcceptanceRates::kMaxDrafters);
}

void TreeStrategy::observe(int32_t token) {
  for (const auto& drafter : drafters_) drafter->observe(token);
}

void TreeStrategy::see(const float* hidden) {
  for (const auto& drafter : drafters_) drafter->see(hidden);
}

void TreeStrategy::plan(int32_t root, const PlanLimits& limits, DraftTree& tree) {
  const int64_t nodes = tree_nodes_ > 0 ? tree_nodes_ : kMaxSizedNodes;
  // Where trees have not paid for some steps, guesses that take time are made now and then only.
  const bool costly = tree_nodes_ > 0 || barren_ < kPatience || barren_ % kPatience == 0;
  grow_tree(drafters_, rates_,
            {.root = root, .nodes = nodes, .max_depth = std::min(draft_depth_, limits.max_depth), .costly = costly},
            tree);
  if (tree_nodes_ > 0) return;
  size_by_cost(limits, tree);
  barren_ = tree.size() > 1 ? 0 : barren_ + 1;
}

void TreeStrategy::size_by_cost(const PlanLimits& limits, DraftTree& tree) {
  if (const int64_t rows = cost_.wanted_rows(); rows > 0) {
    const int64_t nodes = std::max<int64_t>(1, rows / limits.batch);
    tree.resize(std::min(tree.size(), nodes));
    if (limits.max_depth > 0) pad(tree, nodes, vocab_size_);
    return;
  }
  int64_t nodes = best_tree_size(tree, cost_, limits.batch);
  // What a step of one node takes is seen now and then, however well trees pay.
  if (nodes > 1 && ++steps_with_tree_ % kStepsBetweenProbes == 0) nodes = 1;
  if (nodes > 1 || tree.size() == 1) {
    steps_alone_ = 0;
  } else if (++steps_alone_ >= kStepsBetweenProbes) {
    steps_alone_ = 0;
    nodes = std::min(tree.size(), kProbeNodes);
  }
  tree.resize(nodes);
}

void TreeStrategy::learn(const DraftTree& tree, std::span<const int32_t> path, std::span<const int32_t> chosen) {
  for (size_t i = 0; i < path.size(); ++i) {
    for (int32_t n = path[i] + 1; n < tree.size(); ++n) {
      const size_t node = static_cast<size_t>(n);
      if (tree.parents[node] == path[i] && tree.evidence[node] >= 0) {
        rates_.record(tree.evidence[node], tree.tokens[node] == chosen[i]);
      }
    }
  }
}

}  // namespace espalier
