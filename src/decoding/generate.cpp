#include "decoding/generate.h"

#include <string>

#include "core/error.h"
#include "decoding/drafters/draft_head.h"
#include "decoding/drafters/lookup.h"
#include "decoding/drafters/model_drafter.h"
#include "decoding/drafters/ngram_table.h"
#include "decoding/plain_strategy.h"
#include "decoding/text_sequence.h"
#include "decoding/tree_strategy.h"

namespace espalier {
namespace {

std::vector<std::unique_ptr<Drafter>> make_drafters(const SpeculationOptions& options, const DraftSources& sources,
                                                    Workspace& workspace) {
  if (options.make_drafters) return options.make_drafters();
  std::vector<std::unique_ptr<Drafter>> drafters;
  drafters.push_back(std::make_unique<LookupDrafter>());
  if (sources.table) drafters.push_back(std::make_unique<NgramDrafter>(*sources.table));
  if (options.mode == SpeculationMode::kNgram) return drafters;
  if (sources.head) drafters.push_back(std::make_unique<HeadDrafter>(*sources.head, workspace));
  if (sources.model) drafters.push_back(std::make_unique<ModelDrafter>(*sources.model, workspace.pool.size()));
  return drafters;
}

}  // namespace

std::string_view finish_reason_name(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kCancelled:
      return "cancelled";
  }
  return "";
}

Generator::Generator(const Model& model, const Tokenizer* tokenizer, Workspace& workspace, const DraftSources& drafts)
    : model_(model), tokenizer_(tokenizer), workspace_(workspace), drafts_(drafts), engine_(model, workspace) {
  const NgramTable* table = drafts.table;
  ESPALIER_CHECK(!drafts.head || &drafts.head->model() == &model);
  if (drafts.model) check_draft_model(*drafts.model, model);
  if (table && table->vocab_size() > model.config().vocab_size) {
    throw InvalidArgument(error_text("n-gram table", "at most " + std::to_string(model.config().vocab_size) + " tokens",
                                     std::to_string(table->vocab_size())));
  }
}

std::unique_ptr<Strategy> Generator::strategy(const SpeculationOptions& options) {
  if (options.mode == SpeculationMode::kOff) return std::make_unique<PlainStrategy>();
  return std::make_unique<TreeStrategy>(options, make_drafters(options, drafts_, workspace_), engine_.step_cost(),
                                        rates_, model_.config().vocab_size);
}

GenerateResult Generator::generate(const GenerateRequest& request, const std::atomic<bool>* cancelled) {
  return std::move(generate_batch({&request, 1}, cancelled).front());
}

GenerateResult Generator::generate(const GenerateRequest& request, const std::function<bool()>& cancelled) {
  return std::move(generate_batch({&request, 1}, cancelled).front());
}

std::vector<GenerateResult> Generator::generate_batch(std::span<const GenerateRequest> requests,
                                                      const std::atomic<bool>* cancelled) {
  if (!cancelled) return generate_batch(requests, std::function<bool()>());
  return generate_batch(requests, [cancelled] { return cancelled->load(std::memory_order_relaxed); });
}

std::vector<GenerateResult> Generator::generate_batch(std::span<const GenerateRequest> requests,
                                                      const std::function<bool()>& cancelled) {
  std::vector<std::shared_ptr<TextSequence>> sequences;  // all of them are right before one is admitted
  for (const GenerateRequest& request : requests) {
    sequences.push_back(
        std::make_shared<TextSequence>(model_, tokenizer_, request, strategy(request.options.speculation)));
  }
  struct Clear {  // whatever a step throws, no sequence stays for the next call
    Engine& engine;
    ~Clear() { engine.clear(); }
  } const clear{engine_};
  std::vector<SequenceId> ids;
  for (const auto& sequence : sequences) ids.push_back(engine_.admit(sequence));
  do {
    if (!cancelled || !cancelled()) continue;
    for (const SequenceId id : ids) engine_.cancel(id);
  } while (engine_.step());
  std::vector<GenerateResult> results;
  for (const auto& sequence : sequences) results.push_back(std::move(*sequence).result());
  return results;
}

}  // namespace espalier
