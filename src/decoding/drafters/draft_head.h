// A trained draft head: a recurrent cell that starts from the model's last hidden state and reads the drafted tokens,
// as Hydra's heads (Ankner et al. 2024) and ReDrafter's (Zhang et al. 2024) do. docs/derivations/draft_head.md.
//
//   s_0 = cell(h, e(root)),  s_n = cell(s_parent, e(token))
//   cell(s, e) = s + B silu(A [norm(s); norm(e)])
//   p(token | path) = softmax of W s over the head's tokens
//
// h: the hidden state that the root was drawn from; e: the model's own embedding; W: the rows of the model's own head
// for the tokens that it writes most. Both norms are RMSNorm with a weight.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "checkpoint/safetensors.h"
#include "decoding/drafters/drafter.h"
#include "models/model.h"

namespace espalier {

struct DraftHeadInfo {
  std::string base_sha256, base_name;
  std::vector<int32_t> tokens;  // that it can guess; at least one, no two alike
  std::string command;          // what made it
};

// A directory with draft_head.json and draft_head.safetensors (docs/formats/draft_head.md). Immutable; shareable
// between threads. The model must outlive it.
class DraftHead {
 public:
  // Throws InvalidArgument (no such directory; made for another base, both hashes are named), CorruptFile.
  static DraftHead load(const std::filesystem::path& directory, const ModelFiles& base, const Model& model);
  // The tensors "in" [F, 2d], "out" [d, F], "state_norm" and "token_norm" [d].
  DraftHead(const DraftHeadInfo& info, const TensorSource& tensors, const Model& model,
            WeightType weights = WeightType::kInt4);

  int64_t hidden_size() const { return hidden_size_; }
  const std::vector<int32_t>& tokens() const { return tokens_; }
  const Model& model() const { return *model_; }

  // state [d] -> cell(state, e(token)) [d]; all threads of the workspace's pool. Uses `scratch`.
  void advance(const float* state, int32_t token, ThreadPool& pool, Arena& scratch, float* out) const;
  // Appends the likeliest tokens after `state`, at most `count` of probability `least` or more.
  void guess(const float* state, int64_t count, double least, ThreadPool& pool, Arena& scratch,
             std::vector<DraftChild>& out) const;

 private:
  const Model* model_;
  int64_t hidden_size_, width_;
  std::vector<int32_t> tokens_;
  std::vector<float> state_norm_, token_norm_;  // [d]
  WeightMemory memory_;
  PackedMatrix in_, out_, head_;  // [F, 2d], [d, F], [tokens, d]
};

// Writes both files, draft_head.json last, so that a directory with one is complete.
void write_draft_head(const std::filesystem::path& directory, const DraftHeadInfo& info,
                      const std::vector<TensorToWrite>& tensors);

// Drafts by a head. It guesses only where the model is likely to come by: a guess costs time.
class HeadDrafter : public Drafter {
 public:
  // `head` and `workspace` must outlive this; the workspace's pool is used between steps.
  HeadDrafter(const DraftHead& head, Workspace& workspace);

  bool costly() const override { return true; }
  void reset() override;
  void observe(int32_t token) override;
  void see(const float* hidden) override;
  DraftCursor root() override;
  void children(DraftCursor cursor, double reach, std::vector<DraftChild>& out) override;
  DraftCursor advance(DraftCursor cursor, int32_t token) override;

 private:
  struct Node {
    int64_t parent;
    int32_t token;
    bool known = false;  // its state is computed
  };
  float* state(int64_t node) { return states_.data() + node * head_.hidden_size(); }
  void compute(int64_t node);

  const DraftHead& head_;
  Workspace& workspace_;
  Arena scratch_;
  std::vector<float> hidden_;  // [d], empty before anything was seen
  int32_t last_ = -1;          // newest token
  // Of the tree that grows now: node 0 is the hidden state that the root was drawn from, node 1 the root.
  std::vector<Node> nodes_;
  std::vector<float> states_;  // [nodes, d]
};

}  // namespace espalier
