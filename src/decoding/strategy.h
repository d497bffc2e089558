// How a sequence chooses the tree of its next step. What the tree holds beside its root changes the speed alone.
#pragma once

#include <cstdint>
#include <span>

#include "decoding/tree.h"

namespace espalier {

struct PlanLimits {
  int64_t max_depth;  // of a node; 0: the root alone
  int64_t batch;      // sequences in the same step
};

// One per sequence; not thread-safe.
class Strategy {
 public:
  virtual ~Strategy() = default;

  // Every token of the text in order: prompt, then output.
  virtual void observe(int32_t token) = 0;
  // The model's last hidden state [d] of the row that the newest token was drawn from.
  virtual void see(const float* /*hidden*/) {}
  // Fills `tree`; its root is the last observed token.
  virtual void plan(int32_t root, const PlanLimits& limits, DraftTree& tree) = 0;
  // The model came along `path` (node indices, root first), choosing chosen[i] after path[i].
  virtual void learn(const DraftTree& tree, std::span<const int32_t> path, std::span<const int32_t> chosen) = 0;
};

}  // namespace espalier
