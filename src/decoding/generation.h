// One request on its way: what its next step holds, and what the step's outcome means for it.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "decoding/generate.h"
#include "decoding/strategy.h"
#include "decoding/text_output.h"

namespace espalier {

// Prefill is a sequence of chains, decoding a sequence of trees. At each node that the walk comes by, the sampler
// draws the next token from the model's logits, history and position there, exactly as plain decoding would. If a
// child holds that token the walk goes down, otherwise the step is over. Only nodes that were drawn from are
// committed, so the state never knows that there were drafts.
class Generation {
 public:
  // Throws InvalidArgument as Generator::generate() does. Everything but `strategy` must outlive this.
  Generation(const Model& model, const Tokenizer* tokenizer, const GenerateRequest& request,
             std::unique_ptr<Strategy> strategy);

  bool finished() const { return finished_; }
  // The prompt is in, and every step is over a tree.
  bool decoding() const { return fed_ == request_.prompt.size(); }
  void cancel() { finish(FinishReason::kCancelled); }

  // The next step's rows; `batch` sequences take part in it. Valid until take().
  Segment plan(int64_t batch);
  // What the step gave for segment `index`.
  void take(const StepOutput& output, size_t index);
  // The last step took this long.
  void spend(double ms) { (last_decoding_ ? result_.stats.decode_ms : result_.stats.prefill_ms) += ms; }

  GenerateResult result() &&;

 private:
  void take_prompt(const StepOutput& output, size_t index);
  void take_tree(const StepOutput& output, size_t index);
  // Draws the token after the text from `logits`, and adds it.
  int32_t emit(const float* logits);
  void finish(FinishReason reason);

  const Model& model_;
  const GenerateRequest& request_;
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
