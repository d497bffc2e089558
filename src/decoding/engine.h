// An engine runs sequences on one model, a step at a time: whoever calls may enter between any two steps.
//
//   Engine engine(model, workspace);
//   const auto sequence = std::make_shared<TextSequence>(model, tokenizer, request, strategy);
//   engine.admit(sequence);
//   while (engine.step()) {}
//
// What a sequence gives does not depend on the others, on when they came or went, or on how a prompt was cut by the
// rows that steps had for it (docs: Exactness in ARCHITECTURE.md).
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "decoding/sequence.h"
#include "decoding/tree_cost.h"
#include "models/model.h"

namespace espalier {

using SequenceId = uint64_t;

// Not thread-safe; model and workspace must outlive it.
class Engine {
 public:
  static constexpr int64_t kAllPromptRows = std::numeric_limits<int64_t>::max();

  Engine(const Model& model, Workspace& workspace) : model_(model), workspace_(workspace) {}

  // Takes part from the next step on. Ids begin at 1 and are not used again.
  SequenceId admit(std::shared_ptr<Sequence> sequence);
  // Ends a sequence before the next step. Nothing happens for one that has ended or never was.
  void cancel(SequenceId id);

  // One step over all sequences: those that decode put their rows in, then prompts share `prompt_rows` (at least 1) in
  // the order of their admission, each at most Model::kPrefillChunk of them; who gets none waits. False when there is
  // no sequence left.
  bool step(int64_t prompt_rows = kAllPromptRows);
  // Who has ended, by itself or cancelled, since the last call; in the order of their ends.
  std::vector<SequenceId> finished();
  size_t running() const { return running_.size(); }
  // Forgets all sequences, without a word to them.
  void clear();

  // Step times, learned from steps in which all sequences decoded.
  const StepCost& step_cost() const { return cost_; }
  void set_step_cost(const StepCost& cost) { cost_ = cost; }

 private:
  struct Running {
    SequenceId id;
    std::shared_ptr<Sequence> sequence;
  };
  // Segments of the next step, and which of running_ they belong to.
  struct Share {
    size_t running, first_segment;
  };
  std::vector<Share> plan(int64_t prompt_rows);
  void drop_finished();

  const Model& model_;
  Workspace& workspace_;
  StepCost cost_;
  std::vector<Running> running_;  // in the order of admission
  std::vector<SequenceId> finished_;
  SequenceId last_id_ = 0;
  std::vector<Segment> segments_;
  StepOutput output_;
};

}  // namespace espalier
