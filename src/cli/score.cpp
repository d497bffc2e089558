#include <deque>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "checkpoint/safetensors.h"
#include "cli/model_arguments.h"
#include "cli/text_lines.h"
#include "core/error.h"
#include "evaluation/scoring.h"

namespace espalier {
namespace {

struct Arguments {
  ModelArguments model;
  std::string input, logits;
};

nlohmann::json json_of(const Model& model, const TextLine& line, const TextScores& scores) {
  nlohmann::json json = {{"tokens", line.tokens}};
  if (!scores.labels.empty()) json["labels"] = scores.labels;
  if (model.config().bidirectional && scores.likeliest.empty()) return json;  // it has no head for words
  json["argmax"] = scores.likeliest;
  json["logprobs"] = nlohmann::json::array();
  if (!scores.first_has_logprob && !line.tokens.empty()) json["logprobs"].push_back(nullptr);
  for (const float logprob : scores.logprobs) json["logprobs"].push_back(logprob);
  return json;
}

int run(const Arguments& arguments) {
  const ModelFiles files = arguments.model.open();
  std::istringstream input(read_input(arguments.input));
  const auto tokenizer = tokenizer_of(files);
  const auto model = arguments.model.load(files);
  const bool keep = !arguments.logits.empty();
  if (!model->gives(Output::kLogits) && (keep || !model->gives(Output::kLabels))) {
    throw NotSupported(error_text(arguments.model.model, "a model with a head for words or classes", "neither",
                                  "`encode` for its hidden states"));
  }
  Workspace workspace(arguments.model.thread_count());

  std::deque<std::vector<float>> logits;
  std::vector<TensorToWrite> tensors;
  for (const TextLine& line : read_text_lines(input, tokenizer.get(), *model, arguments.input)) {
    if (keep) logits.emplace_back();
    std::vector<float>* own = keep ? &logits.back() : nullptr;
    const TextScores scores = score_text(
        *model, {.tokens = line.tokens, .token_types = line.token_types, .source = line.source}, workspace, own);
    std::cout << json_of(*model, line, scores).dump() << std::endl;
    if (keep) {
      tensors.push_back({"logits." + std::to_string(tensors.size()),
                         {static_cast<int64_t>(line.tokens.size()), model->config().vocab_size},
                         logits.back().data()});
    }
  }
  if (keep) write_safetensors(arguments.logits, tensors);
  return kExitOk;
}

Action add(CLI::App& app) {
  const auto arguments = std::make_shared<Arguments>();
  app.footer(
      "Log-probabilities of texts under the model, one JSON line for each input line:\n"
      "  tokens, logprobs (the first is null), argmax (the likeliest next token after each)\n"
      "Of an encoder (BERT): logprobs and argmax of the token at each position, labels (a classification head's "
      "logits)."
      "\n"
      "Of an encoder-decoder (T5), lines with \"source\" or \"source_tokens\": logprobs and argmax of each token of "
      "the "
      "text.\n\n"
      "  echo '{\"text\": \"The sky is blue.\"}' | espalier score MODEL --input -");
  arguments->model.encoders = arguments->model.encoder_decoders = true;
  arguments->model.add_to(app);
  app.add_option(
         "--input", arguments->input,
         R"(JSON lines {"text": …} or {"tokens": […]}, with "token_types": […] where the model has them, and "special": true to take [MASK] in a text as that token; - is stdin)")
      ->required();
  app.add_option("--logits", arguments->logits, "Write logits.0 … [T, V] to this safetensors file");
  return [arguments] { return run(*arguments); };
}

}  // namespace

Verb score_verb() {
  return {"score", "Log-probabilities of texts", add};
}

}  // namespace espalier
