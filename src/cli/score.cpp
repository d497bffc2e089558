#include <deque>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "checkpoint/safetensors.h"
#include "cli/memory_plan.h"
#include "cli/verbs.h"
#include "core/error.h"
#include "decoding/logprob.h"

namespace espalier {
namespace {

struct Arguments {
  ModelArguments model;
  std::string input, logits;
};

std::vector<int32_t> tokens_of(const std::string& text, const Tokenizer* tokenizer, const ModelConfig& config,
                               const std::string& where) {
  const nlohmann::json line = nlohmann::json::parse(text, nullptr, false);
  if (line.is_object() && line.contains("tokens")) return token_ids(line["tokens"], config.vocab_size, where);
  if (!line.is_object() || !line.contains("text") || !line["text"].is_string()) {
    throw InvalidArgument(error_text(where, R"({"text": …} or {"tokens": […]})", "something else"));
  }
  if (!tokenizer) throw InvalidArgument(error_text(where, "token ids (the model has no tokenizer)", "a text"));
  return tokenizer->encode(line["text"].get<std::string>());
}

// Refuses what would fail in the middle of a text.
void check_length(const Model& model, size_t tokens, const std::string& where) {
  const int64_t positions = model.max_positions();
  if (static_cast<int64_t>(tokens) > positions) {
    throw InvalidArgument(error_text(where, "at most " + std::to_string(positions) + " tokens", std::to_string(tokens),
                                     "a shorter text or a linear attention"));
  }
}

// One text's results; `logits` (may be null) receives [T, V].
nlohmann::json score(const Model& model, const std::vector<int32_t>& tokens, Workspace& workspace,
                     std::vector<float>* logits) {
  nlohmann::json logprobs = nlohmann::json::array(), best = nlohmann::json::array();
  if (!tokens.empty()) logprobs.push_back(nullptr);
  const int64_t vocab_size = model.config().vocab_size;
  SequenceState state = model.new_state();
  const auto each_row = [&](int64_t index, const float* row) {
    best.push_back(argmax(row, vocab_size));
    const auto next = static_cast<size_t>(index) + 1;
    if (next < tokens.size()) logprobs.push_back(token_logprob(model.kernels(), row, vocab_size, tokens[next]));
    if (logits) logits->insert(logits->end(), row, row + vocab_size);
  };
  model.prefill(state, tokens, workspace, each_row, nullptr);
  return {{"tokens", tokens}, {"logprobs", logprobs}, {"argmax", best}};
}

int run(const Arguments& arguments) {
  const ModelFiles files = arguments.model.open();
  std::istringstream input(read_input(arguments.input));
  const auto tokenizer = tokenizer_of(files);
  const auto model = arguments.model.load(files);
  Workspace workspace(arguments.model.thread_count());

  std::deque<std::vector<float>> logits;
  std::vector<TensorToWrite> tensors;
  std::string text;
  for (int64_t number = 1; std::getline(input, text); ++number) {
    if (text.find_first_not_of(" \t\r") == std::string::npos) continue;
    const std::string where = arguments.input + ":" + std::to_string(number);
    const std::vector<int32_t> tokens = tokens_of(text, tokenizer.get(), model->config(), where);
    check_length(*model, tokens.size(), where);
    const bool keep = !arguments.logits.empty();
    if (keep) logits.emplace_back();
    std::cout << score(*model, tokens, workspace, keep ? &logits.back() : nullptr).dump() << std::endl;
    if (keep) {
      tensors.push_back({"logits." + std::to_string(tensors.size()),
                         {static_cast<int64_t>(tokens.size()), model->config().vocab_size},
                         logits.back().data()});
    }
  }
  if (!arguments.logits.empty()) write_safetensors(arguments.logits, tensors);
  return kExitOk;
}

}  // namespace

std::function<int()> add_score(CLI::App& app) {
  const auto arguments = std::make_shared<Arguments>();
  app.footer(
      "Log-probabilities of texts under the model, one JSON line for each input line:\n"
      "  tokens, logprobs (the first is null), argmax (the likeliest next token after each)\n\n"
      "  echo '{\"text\": \"The sky is blue.\"}' | espalier score MODEL --input -");
  arguments->model.add_to(app);
  app.add_option("--input", arguments->input, R"(JSON lines {"text": …} or {"tokens": […]}; - is stdin)")->required();
  app.add_option("--logits", arguments->logits, "Write logits.0 … [T, V] to this safetensors file");
  return [arguments] { return run(*arguments); };
}

}  // namespace espalier
