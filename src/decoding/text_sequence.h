// A text that grows token by token, with or without speculation.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "decoding/generate.h"
#include "decoding/sequence.h"
#include "decoding/strategy.h"
#include "decoding/text_output.h"

namespace espalier {

// Prefill is a sequence of chains, decoding a sequence of trees. At each node that the walk comes by, the sampler
// draws the next token from the model's logits, history and position there, exactly as plain decoding would. If a
// child holds that token the walk goes down, otherwise the step is over. Only nodes that were drawn from are
// committed, so the state never knows that there were drafts.
class TextSequence : public Sequence {
 public:
  // `tokenizer` may be null: then the text is empty and stop strings are refused. Throws InvalidArgument for an empty
  // or too long prompt, or an option out of range. Model, tokenizer and what the strategy refers to must outlive this.
  TextSequence(const Model& model, const Tokenizer* tokenizer, GenerateRequest request,
               std::unique_ptr<Strategy> strategy);

  // The same text up to here, that goes on by itself: as sequence number `sequence`, its output shown to `on_text` from
  // here on. The state is shared until one of them goes on.
  std::unique_ptr<TextSequence> fork(uint64_t sequence, std::unique_ptr<Strategy> strategy,
                                     std::function<void(std::string_view text)> on_text = {}) const;

  bool finished() const override { return finished_; }
  bool decoding() const override { return fed_ == request_.prompt.size(); }
  void cancel() override { finish(FinishReason::kCancelled); }
  void plan(const StepLimits& limits, std::vector<Segment>& segments) override;
  void take(const StepOutput& output, size_t first) override;
  void spend(double ms) override { (last_decoding_ ? result_.stats.decode_ms : result_.stats.prefill_ms) += ms; }

  // Without the prompt.
  std::span<const int32_t> tokens() const { return result_.tokens; }
  // Takes the result out.
  GenerateResult result() &&;

 private:
  void take_prompt(const StepOutput& output, size_t index);
  void take_tree(const StepOutput& output, size_t index);
  // Draws the token after the text from `logits`, and adds it.
  int32_t emit(const float* logits);
  void finish(FinishReason reason);

  const Model& model_;
  const Tokenizer* tokenizer_;
  GenerateRequest request_;
  std::unique_ptr<Strategy> strategy_;
  Sampler sampler_;
  TextOutput text_;
  GenerateResult result_;
  std::vector<int32_t> context_;  // the text so far: history, prompt, output
  int64_t first_position_;        // of the output
  int64_t max_tokens_;            // what options and positions allow
  size_t fed_ = 0;                // tokens of the prompt in the state
  DraftTree tree_;
  bool finished_ = false, last_decoding_ = false;
};

}  // namespace espalier
