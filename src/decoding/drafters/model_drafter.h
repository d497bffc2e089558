// Drafts by a smaller model with the same vocabulary.
#pragma once

#include <vector>

#include "decoding/drafters/drafter.h"
#include "models/model.h"

namespace espalier {

// Reads the text as the large model does, and guesses by a step over the path of a node. It guesses only where the
// large model is likely to come by: a guess costs time.
class ModelDrafter : public Drafter {
 public:
  // `model` must outlive this; `threads` run its steps.
  ModelDrafter(const Model& model, int threads);

  bool costly() const override { return true; }
  void reset() override;
  void observe(int32_t token) override;
  DraftCursor root() override;
  void children(DraftCursor cursor, double reach, std::vector<DraftChild>& out) override;
  DraftCursor advance(DraftCursor cursor, int32_t token) override;

 private:
  struct Node {
    int64_t parent;
    int32_t token;
  };

  const Model& model_;
  Workspace workspace_;
  StepOutput output_;
  SequenceState state_;           // of the text, less the newest tokens
  std::vector<int32_t> pending_;  // those
  std::vector<Node> nodes_;       // of the tree that grows now; node 0 is the root
  std::vector<float> scores_;     // [V]
};

// Throws InvalidArgument when the two cannot share token ids (vocabularies of different sizes), or the small one is no
// decoder.
void check_draft_model(const Model& draft, const Model& model);

}  // namespace espalier
