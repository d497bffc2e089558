// From requests to texts: prefill, then steps over token trees until a stop.
//
// With or without speculation, alone or in a batch, on any number of threads: tokens, text, finish reason,
// log-probabilities and the state's bytes are the same.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "decoding/acceptance_rates.h"
#include "decoding/engine.h"
#include "decoding/logprob.h"
#include "decoding/sampler.h"
#include "decoding/speculation_options.h"
#include "models/model.h"
#include "tokenizers/tokenizer.h"

namespace espalier {

class DraftHead;
class NgramTable;
class Strategy;

// What drafts may come from beside the text itself; null: not at hand.
struct DraftSources {
  const NgramTable* table = nullptr;
  const DraftHead* head = nullptr;
  const Model* model = nullptr;  // a smaller one, of the same vocabulary
};

struct GenerateOptions {
  int64_t max_tokens = 128;
  int64_t max_context = 0;  // prompt and output together; 0: what the model's positions allow
  SamplerOptions sampler;
  std::vector<std::string> stop;  // texts that end the output; they are not part of it
  std::vector<int32_t> end_ids;   // tokens that end the output (TokenizerData::end_ids)
  bool ignore_eos = false;        // end_ids do not end it
  int64_t logprobs = -1;          // -1: none; N >= 0: each token's, and the N likeliest beside
  SpeculationOptions speculation;
};

struct GenerateRequest {
  std::vector<int32_t> prompt;  // at least one token
  GenerateOptions options;
  uint64_t sequence = 0;  // tells requests with one seed apart
  // The past that the prompt follows, and its tokens if known (for penalties and drafts); no layers: none.
  SequenceState state;
  std::vector<int32_t> history;
  std::vector<int32_t> source;  // that `state` has read: drafts may quote it
  // Called with whole characters as they become certain: text that may turn out to be a stop string waits.
  std::function<void(std::string_view text)> on_text;
};

enum class FinishReason { kStop, kLength, kCancelled };
std::string_view finish_reason_name(FinishReason reason);  // "stop", "length", "cancelled"

struct GenerateStats {
  double prefill_ms = 0, decode_ms = 0;
  int64_t steps = 0;                 // after the prompt
  int64_t steps_with_tree = 0;       // of these, with more than one node
  int64_t drafted = 0;               // nodes beside the roots
  int64_t accepted = 0;              // of these, that the model chose
  std::vector<int32_t> step_tokens;  // what each step gave
  double tokens_per_step = 0;        // output tokens after the first, per step
  double tokens_per_second = 0;
};

struct GeneratedLogprob {
  float logprob;                  // log softmax of the raw logits, as `score` gives it
  std::vector<TokenLogprob> top;  // the likeliest tokens, descending
};

struct GenerateResult {
  std::vector<int32_t> tokens;  // the one that ended the output included
  std::string text;             // without special tokens and stop strings
  FinishReason finish_reason = FinishReason::kLength;
  std::vector<GeneratedLogprob> logprobs;  // one per token when asked for
  // Holds the prompt and all tokens but the last. To go on: prompt = {last token, …}. After a cancellation during
  // the prompt it holds the part that was done.
  SequenceState state;
  GenerateStats stats;
};

// Runs requests on one model. Keeps what it learns about step times and acceptance for later requests. Not
// thread-safe; model, tokenizer, workspace and what drafts come from must outlive it.
class Generator {
 public:
  // `tokenizer` may be null: then texts are empty and stop strings refused.
  Generator(const Model& model, const Tokenizer* tokenizer, Workspace& workspace, const DraftSources& drafts = {});

  // Throws InvalidArgument for an empty or too long prompt, or an option out of range. `cancelled` (may be null) is
  // looked at before each step, or asked.
  GenerateResult generate(const GenerateRequest& request, const std::atomic<bool>* cancelled = nullptr);
  GenerateResult generate(const GenerateRequest& request, const std::function<bool()>& cancelled);
  // Several at once, each step over all that are not finished.
  std::vector<GenerateResult> generate_batch(std::span<const GenerateRequest> requests,
                                             const std::atomic<bool>* cancelled = nullptr);
  std::vector<GenerateResult> generate_batch(std::span<const GenerateRequest> requests,
                                             const std::function<bool()>& cancelled);

  // What it knows of step times, for a later run to begin with (decoding/step_cost_file.h).
  const StepCost& step_cost() const { return engine_.step_cost(); }
  void set_step_cost(const StepCost& cost) { engine_.set_step_cost(cost); }

  // How a request's trees are drafted: a strategy of its own for each sequence.
  std::unique_ptr<Strategy> strategy(const SpeculationOptions& options);

 private:
  const Model& model_;
  const Tokenizer* tokenizer_;
  Workspace& workspace_;
  DraftSources drafts_;
  Engine engine_;
  AcceptanceRates rates_;
};

}  // namespace espalier
