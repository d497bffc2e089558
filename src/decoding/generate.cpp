#include "decoding/generate.h"

#include <chrono>
#include <string>

#include "core/error.h"
#include "decoding/drafters/draft_head.h"
#include "decoding/drafters/lookup.h"
#include "decoding/drafters/model_drafter.h"
#include "decoding/drafters/ngram_table.h"
#include "decoding/generation.h"
#include "decoding/plain.h"
#include "decoding/speculative.h"

namespace espalier {
namespace {

using Clock = std::chrono::steady_clock;

double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

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

std::unique_ptr<Strategy> make_strategy(const SpeculationOptions& options, const DraftSources& sources,
                                        Workspace& workspace, const StepCost& cost, AcceptanceRates& rates,
                                        int64_t vocab_size) {
  if (options.mode == SpeculationMode::kOff) return std::make_unique<PlainStrategy>();
  return std::make_unique<SpeculativeStrategy>(options, make_drafters(options, sources, workspace), cost, rates,
                                               vocab_size);
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
    : model_(model), tokenizer_(tokenizer), workspace_(workspace), drafts_(drafts) {
  const NgramTable* table = drafts.table;
  ESPALIER_CHECK(!drafts.head || &drafts.head->model() == &model);
  if (drafts.model) check_draft_model(*drafts.model, model);
  if (table && table->vocab_size() > model.config().vocab_size) {
    throw InvalidArgument(error_text("n-gram table", "at most " + std::to_string(model.config().vocab_size) + " tokens",
                                     std::to_string(table->vocab_size())));
  }
}

GenerateResult Generator::generate(const GenerateRequest& request, const std::atomic<bool>* cancelled) {
  return std::move(generate_batch({&request, 1}, cancelled).front());
}

std::vector<GenerateResult> Generator::generate_batch(std::span<const GenerateRequest> requests,
                                                      const std::atomic<bool>* cancelled) {
  std::vector<std::unique_ptr<Generation>> generations;
  for (const GenerateRequest& request : requests) {
    generations.push_back(std::make_unique<Generation>(
        model_, tokenizer_, request,
        make_strategy(request.options.speculation, drafts_, workspace_, cost_, rates_, model_.config().vocab_size)));
  }
  StepOutput output;
  while (true) {
    std::vector<Generation*> active;
    for (const auto& generation : generations) {
      if (!generation->finished() && cancelled && cancelled->load(std::memory_order_relaxed)) generation->cancel();
      if (!generation->finished()) active.push_back(generation.get());
    }
    if (active.empty()) break;

    const auto start = Clock::now();
    std::vector<Segment> segments;
    int64_t rows = 0;
    bool decoding = true;
    for (Generation* generation : active) {
      decoding = decoding && generation->decoding();
      segments.push_back(generation->plan(static_cast<int64_t>(active.size())));
      rows += static_cast<int64_t>(segments.back().tokens.size());
    }
    const auto step_start = Clock::now();
    model_.step(segments, workspace_, output);
    if (decoding) cost_.observe(rows, ms_since(step_start));
    for (size_t i = 0; i < active.size(); ++i) active[i]->take(output, i);
    for (Generation* generation : active) generation->spend(ms_since(start));
  }
  std::vector<GenerateResult> results;
  for (const auto& generation : generations) results.push_back(std::move(*generation).result());
  return results;
}

}  // namespace espalier
