#include <deque>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "checkpoint/safetensors.h"
#include "cli/memory_plan.h"
#include "cli/model_arguments.h"
#include "cli/text_lines.h"
#include "core/error.h"
#include "decoding/logprob.h"

namespace espalier {
namespace {

struct Arguments {
  ModelArguments model;
  std::string input, logits;
};

// One text's results of a decoder; `logits` (may be null) receives [T, V].
nlohmann::json score_decoder(const Model& model, const TextLine& line, Workspace& workspace,
                             std::vector<float>* logits) {
  const std::vector<int32_t>& tokens = line.tokens;
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

// Of an encoder-decoder: each token of the text given the source and the tokens before it.
nlohmann::json score_encoder_decoder(const Model& model, const TextLine& line, Workspace& workspace,
                                     std::vector<float>* logits) {
  nlohmann::json logprobs = nlohmann::json::array(), best = nlohmann::json::array();
  const int64_t vocab_size = model.config().vocab_size;
  SequenceState state = model.read_source(line.source, workspace);
  std::vector<int32_t> shifted = {model.config().decoder_start};
  shifted.insert(shifted.end(), line.tokens.begin(), line.tokens.end());
  shifted.pop_back();
  const auto each_row = [&](int64_t index, const float* row) {
    logprobs.push_back(token_logprob(model.kernels(), row, vocab_size, line.tokens[static_cast<size_t>(index)]));
    best.push_back(argmax(row, vocab_size));
    if (logits) logits->insert(logits->end(), row, row + vocab_size);
  };
  if (!line.tokens.empty()) model.prefill(state, shifted, workspace, each_row, nullptr);
  return {{"tokens", line.tokens}, {"logprobs", logprobs}, {"argmax", best}};
}

// Of an encoder: every position says what stands there; a classification head says what the text is.
nlohmann::json score_encoder(const Model& model, const TextLine& line, Workspace& workspace,
                             std::vector<float>* logits) {
  nlohmann::json result = {{"tokens", line.tokens}};
  if (line.tokens.empty()) return result;
  const SequenceState empty = model.new_state();
  Segment segment{.state = &empty, .tokens = line.tokens, .token_types = line.token_types};
  StepOutput output;
  if (model.gives(Output::kLogits)) {
    model.step({&segment, 1}, workspace, output);
    const int64_t vocab_size = output.width(Output::kLogits);
    for (size_t r = 0; r < line.tokens.size(); ++r) {
      const float* row = output.logits(0, static_cast<int64_t>(r));
      result["logprobs"].push_back(token_logprob(model.kernels(), row, vocab_size, line.tokens[r]));
      result["argmax"].push_back(argmax(row, vocab_size));
      if (logits) logits->insert(logits->end(), row, row + vocab_size);
    }
  }
  if (model.gives(Output::kLabels)) {
    segment.wanted = Wanted::kFirst;
    segment.outputs = Output::kLabels;
    model.step({&segment, 1}, workspace, output);
    const float* labels = output.row(Output::kLabels, 0, 0);
    result["labels"] = std::vector<float>(labels, labels + output.width(Output::kLabels));
  }
  return result;
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
    const auto score = model->config().bidirectional        ? score_encoder
                       : model->config().encoder_layers > 0 ? score_encoder_decoder
                                                            : score_decoder;
    std::cout << score(*model, line, workspace, own).dump() << std::endl;
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
