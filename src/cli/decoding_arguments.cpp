#include "cli/decoding_arguments.h"

#include <algorithm>
#include <cstdio>

#include "core/error.h"
#include "decoding/step_cost_file.h"

namespace espalier {
void DecodingArguments::add_to(CLI::App& app) {
  SamplerOptions& sampler = options.sampler;
  app.add_option("--max-tokens", options.max_tokens, "Tokens to write at most")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--max-context", options.max_context,
                 "Prompt and output together, in tokens; default: what the model's positions allow")
      ->check(CLI::PositiveNumber);
  app.add_option("--temperature", sampler.temperature, "0 takes the likeliest token")
      ->check(number_in(0.0, 100.0))
      ->capture_default_str();
  app.add_option("--top-k", sampler.top_k, "Sample from the K likeliest; 0: from all")->check(CLI::NonNegativeNumber);
  app.add_option("--top-p", sampler.top_p, "Sample from the smallest set with this probability")
      ->check(number_in(0.0, 1.0));
  app.add_option("--min-p", sampler.min_p, "Leave out tokens below this share of the likeliest")
      ->check(number_in(0.0, 1.0));
  app.add_option("--repeat-penalty", sampler.repeat_penalty, "Above 1: tokens of the last 64 become less likely")
      ->check(number_in(0.01, 100.0));
  app.add_option("--seed", sampler.seed, "Same seed, same text")->check(CLI::NonNegativeNumber)->capture_default_str();
  app.add_option("--stop", options.stop, "Text that ends the output and is not part of it; may be repeated")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  app.add_flag("--ignore-eos", options.ignore_eos, "Go on after the end-of-text token");
  app.add_option("--speculate", speculate,
                 "Drafts from nowhere (off), from the text and --ngram-table (ngram), or also from --draft-head and "
                 "--draft-model (auto): the text is the same, only the speed differs")
      ->check(CLI::IsMember({"off", "ngram", "auto"}))
      ->capture_default_str();
  app.add_option("--tree-nodes", options.speculation.tree_nodes,
                 "Nodes of every speculation tree, 1 to 64; default: what pays at each step")
      ->check(CLI::Range(int64_t{1}, kMaxTreeNodes));
  app.add_option("--ngram-table", ngram_table, "Table of `espalier ngram` to draft from, beside the text itself");
  app.add_option("--draft-head", draft_head, "Directory of `espalier draft`: a trained head to draft from, too");
  app.add_option("--draft-model", draft_model, "A smaller model of the same vocabulary to draft from, too");
  app.add_option("--system", system, "System message; default: the checkpoint's");
  app.add_option("--chat-format", chat_format, "chatml, llama3 or zephyr; default: found by the checkpoint's template")
      ->check(CLI::IsMember(chat_format_names()));
}

GenerateOptions DecodingArguments::complete(const ModelFiles& files) const {
  GenerateOptions complete = options;
  complete.speculation.mode = speculation_mode_by_name(speculate);
  complete.end_ids = files.tokenizer.end_ids;
  return complete;
}

LoadedDrafts DecodingArguments::drafts(const ModelArguments& arguments, const ModelFiles& files,
                                       const Tokenizer& tokenizer, const Model& model) const {
  const bool trained = !draft_head.empty() || !draft_model.empty();
  if (trained && speculate != "auto") {
    throw UsageError(error_text("--speculate", "auto beside --draft-head and --draft-model", speculate));
  }
  LoadedDrafts drafts;
  if (!ngram_table.empty()) drafts.table = std::make_unique<NgramTable>(NgramTable::load(ngram_table, tokenizer));
  if (!draft_head.empty()) drafts.head = std::make_unique<DraftHead>(DraftHead::load(draft_head, files, model));
  if (!draft_model.empty()) {
    ModelArguments small;
    small.model = draft_model;
    small.weights = arguments.weights;
    small.isa = arguments.isa;
    small.threads = arguments.threads;
    drafts.model = small.load(small.open());
  }
  return drafts;
}

ChatFormat DecodingArguments::format(const ModelFiles& files) const {
  return chat_format_for(chat_format, files.tokenizer.chat_template);
}

std::vector<int32_t> DecodingArguments::message_tokens(const Tokenizer& tokenizer, const ChatFormat& format,
                                                       const std::string& message,
                                                       std::span<const int32_t> past) const {
  return espalier::message_tokens(tokenizer, format, system, message, past);
}

StepTimesOfUser::StepTimesOfUser(Generator& generator, const Model& model, const ModelArguments& arguments)
    : generator_(generator), key_(step_cost_key(model, arguments.weights, arguments.thread_count())) {
  const auto path = step_cost_path();
  if (!path) return;
  if (const auto cost = load_step_cost(*path, key_)) generator_.set_step_cost(*cost);
}

StepTimesOfUser::~StepTimesOfUser() {
  if (const auto path = step_cost_path()) save_step_cost(*path, key_, generator_.step_cost());
}

std::string statistics_text(const GenerateResult& result, size_t prompt_tokens) {
  const GenerateStats& stats = result.stats;
  char text[320];
  std::snprintf(text, sizeof(text),
                "%zu + %zu tokens (%s), prompt %.0f ms, then %.1f tokens/s; %ld steps, %.2f tokens per step, %ld of "
                "%ld drafts accepted; state %.1f MiB",
                prompt_tokens, result.tokens.size(), std::string(finish_reason_name(result.finish_reason)).c_str(),
                stats.prefill_ms, stats.tokens_per_second, static_cast<long>(stats.steps), stats.tokens_per_step,
                static_cast<long>(stats.accepted), static_cast<long>(stats.drafted),
                static_cast<double>(result.state.bytes()) / (1 << 20));
  return text;
}

}  // namespace espalier
