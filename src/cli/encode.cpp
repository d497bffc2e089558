#include <algorithm>
#include <chrono>
#include <deque>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>

#include "checkpoint/safetensors.h"
#include "cli/model_arguments.h"
#include "cli/text_lines.h"
#include "core/error.h"
#include "evaluation/encoding.h"
#include "program/interrupt.h"

namespace espalier {
namespace {

struct Arguments {
  ModelArguments model;
  std::string input, pool = "none", output;
  bool normalize = false;
  int64_t batch = 32;
};

struct PoolName {
  const char* name;
  Pool pool;
};
constexpr PoolName kPools[] = {
    {"none", Pool::kNone}, {"mean", Pool::kMean}, {"cls", Pool::kFirst}, {"pooler", Pool::kPooler}};

Pool pool_of(const Arguments& arguments) {
  return std::find_if(std::begin(kPools), std::end(kPools),
                      [&](const PoolName& own) { return own.name == arguments.pool; })
      ->pool;
}

std::vector<std::string> pool_names() {
  std::vector<std::string> names;
  for (const PoolName& own : kPools) names.emplace_back(own.name);
  return names;
}

void print(const TextLine& line, const EncodedText& encoded, const Arguments& arguments) {
  nlohmann::json json = {{"tokens", line.tokens}};
  if (arguments.pool != "none") {
    json["embedding"] = encoded.values;
  } else {
    nlohmann::json& hidden = json["hidden"] = nlohmann::json::array();
    for (int64_t r = 0; r < encoded.rows; ++r) {
      const float* row = encoded.values.data() + r * encoded.width;
      hidden.push_back(std::vector<float>(row, row + encoded.width));
    }
  }
  std::cout << json.dump() << std::endl;
}

int run(const Arguments& arguments) {
  if (arguments.normalize && arguments.pool == "none") {
    throw UsageError(error_text("--normalize", "--pool mean, cls or pooler beside it", "--pool none"));
  }
  const ModelFiles files = arguments.model.open();
  std::istringstream input(read_input(arguments.input));
  const auto tokenizer = tokenizer_of(files);
  const auto model = arguments.model.load(files);
  Workspace workspace(arguments.model.thread_count());
  const std::vector<TextLine> lines = read_text_lines(input, tokenizer.get(), *model, arguments.input);
  for (const TextLine& line : lines) {
    if (line.tokens.empty()) throw InvalidArgument(error_text(line.where, "at least one token", "none"));
  }

  std::deque<EncodedText> kept;
  std::vector<TensorToWrite> tensors;
  StepOutput output;
  double seconds = 0;
  int64_t tokens = 0;
  install_interrupt();
  for (size_t first = 0; first < lines.size() && !interrupted(); first += static_cast<size_t>(arguments.batch)) {
    const auto batch = std::span(lines).subspan(first, std::min(lines.size() - first, size_t(arguments.batch)));
    const auto start = std::chrono::steady_clock::now();
    std::vector<TextToEncode> texts;
    for (const TextLine& line : batch) texts.push_back({line.tokens, line.token_types});
    std::vector<EncodedText> encoded =
        encode_texts(*model, texts, pool_of(arguments), arguments.normalize, workspace, output);
    seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    for (const TextLine& line : batch) tokens += static_cast<int64_t>(line.tokens.size());
    for (size_t i = 0; i < batch.size(); ++i) {
      if (arguments.output.empty()) {
        print(batch[i], encoded[i], arguments);
        continue;
      }
      const EncodedText& own = kept.emplace_back(std::move(encoded[i]));
      const bool rows = arguments.pool == "none";
      tensors.push_back({(rows ? "hidden." : "embedding.") + std::to_string(tensors.size()),
                         rows ? std::vector<int64_t>{own.rows, own.width} : std::vector<int64_t>{own.width},
                         own.values.data()});
    }
  }
  if (!arguments.output.empty()) write_safetensors(arguments.output, tensors);
  const nlohmann::json times = {{"texts", lines.size()}, {"tokens", tokens}, {"seconds", seconds}};
  arguments.model.log().debug("steps: " + times.dump());
  if (!interrupted()) return kExitOk;
  arguments.model.log().warning("interrupted: whole batches only, from the first text on");
  return kExitInterrupted;
}

Action add(CLI::App& app) {
  const auto arguments = std::make_shared<Arguments>();
  app.footer(
      "Hidden states of texts after the last norm, one JSON line for each input line:\n"
      "  tokens, hidden [T, d], or with --pool: embedding [d]\n\n"
      "  echo '{\"text\": \"The sky is blue.\"}' | espalier encode MODEL --input - --pool mean --normalize\n\n"
      "Texts of a batch do not change each other's numbers. Ctrl-C ends cleanly after the present batch: what is done "
      "is written, exit code 130.");
  arguments->model.encoders = true;
  arguments->model.add_to(app);
  app.add_option(
         "--input", arguments->input,
         R"(JSON lines {"text": …} or {"tokens": […]}, with "token_types": […] where the model has them, and "special": true to take [MASK] in a text as that token; - is stdin)")
      ->required();
  app.add_option("--pool", arguments->pool, "none, mean, cls (the first row), pooler (what the model's pooler gives)")
      ->check(CLI::IsMember(pool_names()))
      ->capture_default_str();
  app.add_flag("--normalize", arguments->normalize, "Scale embeddings to length 1");
  app.add_option("--batch", arguments->batch, "Texts in one step")->check(CLI::Range(1, 4096))->capture_default_str();
  app.add_option("--output", arguments->output,
                 "Write hidden.0 … [T, d], or embedding.0 … [d], to this safetensors file");
  return [arguments] { return run(*arguments); };
}

}  // namespace

Verb encode_verb() {
  return {"encode", "Hidden states and embeddings of texts", add};
}

}  // namespace espalier
