#include <algorithm>
#include <chrono>
#include <cmath>
#include <deque>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "checkpoint/safetensors.h"
#include "cli/model_arguments.h"
#include "cli/text_lines.h"
#include "core/error.h"
#include "program/interrupt.h"

namespace espalier {
namespace {

struct Arguments {
  ModelArguments model;
  std::string input, pool = "none", output;
  bool normalize = false;
  int64_t batch = 32;
};

// What a text becomes: its rows [rows, width], or one row that they are pooled into.
struct Encoded {
  std::vector<float> values;
  int64_t rows = 0, width = 0;
};

void scale_to_length_1(std::vector<float>& x) {
  double squares = 0;
  for (const float value : x) squares += double{value} * value;
  const double factor = 1.0 / std::max(std::sqrt(squares), 1e-12);
  for (float& value : x) value = static_cast<float>(value * factor);
}

Output output_of(const Arguments& arguments) {
  return arguments.pool == "pooler" ? Output::kPooled : Output::kHidden;
}

Encoded pooled(const StepOutput& output, size_t segment, int64_t rows, const Arguments& arguments) {
  const Output what = output_of(arguments);
  const int64_t width = output.width(what);
  Encoded encoded{.rows = 1, .width = width};
  if (arguments.pool == "none") {
    encoded.rows = rows;
    for (int64_t r = 0; r < rows; ++r) {
      const float* row = output.row(what, segment, r);
      encoded.values.insert(encoded.values.end(), row, row + width);
    }
    return encoded;
  }
  if (arguments.pool == "mean") {
    std::vector<double> sum(static_cast<size_t>(width), 0.0);
    for (int64_t r = 0; r < rows; ++r) {
      const float* row = output.row(what, segment, r);
      for (int64_t c = 0; c < width; ++c) sum[static_cast<size_t>(c)] += row[c];
    }
    for (const double value : sum) encoded.values.push_back(static_cast<float>(value / static_cast<double>(rows)));
  } else {
    const float* row = output.row(what, segment, 0);
    encoded.values.assign(row, row + width);
  }
  if (arguments.normalize) scale_to_length_1(encoded.values);
  return encoded;
}

// A batch of texts in one step.
std::vector<Encoded> encode(const Model& model, std::span<const TextLine> lines, const Arguments& arguments,
                            Workspace& workspace, StepOutput& output) {
  const SequenceState empty = model.new_state();
  std::vector<Segment> segments;
  const bool whole = arguments.pool == "none" || arguments.pool == "mean";
  for (const TextLine& line : lines) {
    segments.push_back({.state = &empty,
                        .tokens = line.tokens,
                        .wanted = whole ? Wanted::kAll : Wanted::kFirst,
                        .outputs = output_of(arguments),
                        .token_types = line.token_types});
  }
  model.step(segments, workspace, output);
  std::vector<Encoded> all;
  for (size_t s = 0; s < lines.size(); ++s) {
    all.push_back(pooled(output, s, static_cast<int64_t>(lines[s].tokens.size()), arguments));
  }
  return all;
}

void print(const TextLine& line, const Encoded& encoded, const Arguments& arguments) {
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

  std::deque<Encoded> kept;
  std::vector<TensorToWrite> tensors;
  StepOutput output;
  double seconds = 0;
  int64_t tokens = 0;
  install_interrupt();
  for (size_t first = 0; first < lines.size() && !interrupted(); first += static_cast<size_t>(arguments.batch)) {
    const auto batch = std::span(lines).subspan(first, std::min(lines.size() - first, size_t(arguments.batch)));
    const auto start = std::chrono::steady_clock::now();
    std::vector<Encoded> encoded = encode(*model, batch, arguments, workspace, output);
    seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    for (const TextLine& line : batch) tokens += static_cast<int64_t>(line.tokens.size());
    for (size_t i = 0; i < batch.size(); ++i) {
      if (arguments.output.empty()) {
        print(batch[i], encoded[i], arguments);
        continue;
      }
      const Encoded& own = kept.emplace_back(std::move(encoded[i]));
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
      ->check(CLI::IsMember({"none", "mean", "cls", "pooler"}))
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
