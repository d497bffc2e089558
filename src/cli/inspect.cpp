#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>

#include "cli/attentions.h"
#include "cli/model_arguments.h"
#include "core/progress.h"
#include "evaluation/weight_errors.h"
#include "models/memory_plan.h"
#include "models/step_loader.h"

namespace espalier {
namespace {

constexpr int64_t kLengths[] = {200, 1000, 8000, 32000};

struct Arguments {
  ModelArguments model;
  bool json = false, errors = false, attentions = false;
};

struct Findings {
  const ModelFiles& files;
  int64_t parameters;
  std::vector<int64_t> state_bytes;  // at kLengths
  MemoryPlan f32, bf16;
  std::vector<WeightError> errors;
};

void print_json(const Findings& found) {
  const ModelConfig& config = found.files.config;
  nlohmann::json bytes = nlohmann::json::object();
  for (size_t i = 0; i < std::size(kLengths); ++i) bytes[std::to_string(kLengths[i])] = found.state_bytes[i];
  nlohmann::json result = {{"family", config.family},
                           {"parameters", found.parameters},
                           {"attention", config.attention},
                           {"state_bytes", bytes},
                           {"constant_state", found.bf16.constant_state},
                           {"weight_bytes", {{"f32", found.f32.weight_bytes}, {"bf16", found.bf16.weight_bytes}}},
                           {"activation_bytes", found.bf16.activation_bytes},
                           {"layers", config.num_hidden_layers},
                           {"hidden_size", config.hidden_size},
                           {"heads", config.num_attention_heads},
                           {"kv_heads", config.num_key_value_heads},
                           {"head_dim", config.head_dim},
                           {"vocab_size", config.vocab_size},
                           {"max_positions", config.max_position_embeddings},
                           {"pre_tokenizer", found.files.tokenizer.pre_tokenizer},
                           {"tokenizer", found.files.tokenizer.model}};
  for (const WeightError& error : found.errors) {
    result["weight_errors"][std::string(weight_type_name(error.type))] = {{"bytes", error.bytes},
                                                                          {"relative", error.relative},
                                                                          {"worst", error.worst},
                                                                          {"worst_tensor", error.worst_name}};
  }
  std::cout << result.dump() << std::endl;
}

void print_text(const Findings& found) {
  const ModelConfig& config = found.files.config;
  const TokenizerData& tokenizer = found.files.tokenizer;
  const auto number = [](int64_t value) { return static_cast<long>(value); };
  std::printf("family        %s, %.1f M parameters\n", config.family.c_str(),
              static_cast<double>(found.parameters) / 1e6);
  std::printf("layers        %ld of width %ld, %ld heads (%ld KV) of %ld\n", number(config.num_hidden_layers),
              number(config.hidden_size), number(config.num_attention_heads), number(config.num_key_value_heads),
              number(config.head_dim));
  std::printf("vocabulary    %ld (%s)\n", number(config.vocab_size),
              tokenizer.pieces.empty()          ? "no tokenizer"
              : tokenizer.pre_tokenizer.empty() ? tokenizer.model.c_str()
                                                : tokenizer.pre_tokenizer.c_str());
  std::printf("positions     %ld\n", number(config.max_position_embeddings));
  for (size_t first = 0; first < config.attention.size();) {
    size_t last = first;
    while (last + 1 < config.attention.size() && config.attention[last + 1] == config.attention[first]) ++last;
    std::printf("layers %2zu-%-2zu  %s\n", first, last, config.attention[first].c_str());
    first = last + 1;
  }
  std::printf("weights       %s in bf16, %s in f32\n", mebibytes(found.bf16.weight_bytes).c_str(),
              mebibytes(found.f32.weight_bytes).c_str());
  std::printf("activations   %s in a prefill step\n", mebibytes(found.bf16.activation_bytes).c_str());
  for (size_t i = 0; i < std::size(kLengths); ++i) {
    std::printf("state         %s at %ld tokens\n", mebibytes(found.state_bytes[i]).c_str(), number(kLengths[i]));
  }
  for (const WeightError& error : found.errors) {
    std::printf("as %-10s %s, matrices off by %.3f %%, at worst %.3f %% (%s)\n",
                std::string(weight_type_name(error.type)).c_str(), mebibytes(error.bytes).c_str(), 100 * error.relative,
                100 * error.worst, error.worst_name.c_str());
  }
}

int run(const Arguments& arguments) {
  if (arguments.attentions) {
    print_attentions(arguments.json);
    return kExitOk;
  }
  if (arguments.model.model.empty()) throw UsageError("MODEL is required");
  const ModelFiles files = arguments.model.open();
  const auto mechanisms = load_mechanisms(files.config, *files.tensors);
  Findings found{files, parameter_count(files), {}, {}, {}, {}};
  for (const int64_t tokens : kLengths) found.state_bytes.push_back(state_bytes(files.config, mechanisms, tokens));
  found.f32 = plan_memory(files, WeightType::kF32, 0);
  found.bf16 = plan_memory(files, WeightType::kBf16, 0);
  if (arguments.errors) found.errors = weight_errors(*files.tensors, progress_function("errors"));
  arguments.json ? print_json(found) : print_text(found);
  return kExitOk;
}

Action add(CLI::App& app) {
  const auto arguments = std::make_shared<Arguments>();
  app.footer(
      "Family, sizes, attention per layer, and the bytes of weights, activations and a sequence's state. Reads no "
      "weights, unless --errors asks what storing them in fewer bits would do to them.\n\n"
      "  espalier inspect MODEL\n"
      "  espalier inspect MODEL --attention 'window(group=64)' --json\n"
      "  espalier inspect --attentions");
  arguments->model.encoders = arguments->model.encoder_decoders = true;
  arguments->model.add_to(app);
  app.get_option("MODEL")->required(false);  // not for --attentions
  app.add_flag("--attentions", arguments->attentions, "Instead: every attention, its options, what it is, its source");
  app.add_flag("--errors", arguments->errors, "Relative error of the matrices in bf16, int8 and int4; reads them all");
  app.add_flag("--json", arguments->json, "One JSON object");
  return [arguments] { return run(*arguments); };
}

}  // namespace

Verb inspect_verb() {
  return {"inspect", "What a model is made of, and what its state costs", add};
}

}  // namespace espalier
