#include "cli/model_arguments.h"

#include <algorithm>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <thread>

#include "core/file.h"
#include "core/progress.h"
#include "models/memory_plan.h"

namespace espalier {
namespace {

// A SPEC with a known name and well-formed options; what they mean is checked when the model is built.
std::string check_attention(const std::string& text) {
  try {
    const std::string name = AttentionSpec::parse(text).name();
    const std::vector<std::string> names = mechanism_names();
    if (std::find(names.begin(), names.end(), name) != names.end()) return "";
    std::string known;
    for (const std::string& other : names) known += (known.empty() ? "" : ", ") + other;
    return "expected a name out of " + known + ", got '" + name + "'";
  } catch (const Error& error) {
    return error.what();
  }
}

std::vector<std::string> weight_names() {
  std::vector<std::string> names;
  for (const WeightKind& kind : kWeightKinds) names.emplace_back(kind.name);
  names.emplace_back("own");
  return names;
}

}  // namespace

void ModelArguments::add_to(CLI::App& app) {
  app.add_option("MODEL", model, "A .gguf file or a model directory")->required();
  app.add_option("--adapter", adapter, "Adapter directory that linearizes this model");
  app.add_option("--attention", attention, "Attention of all layers, e.g. 'window(group=64)'; default: the model's own")
      ->check(CLI::Validator(check_attention, "SPEC"));
  if (encoder_decoders) {
    app.add_option("--encoder-attention", encoder_attention,
                   "Attention of an encoder-decoder's encoder; default: softmax")
        ->check(CLI::Validator(check_attention, "SPEC"));
  }
  if (runs) {
    app.add_option(
           "--weights", weights,
           "Weights at run time: f32, bf16, int8, int4, int4-sym (without minima, a tenth smaller), or own: quantized "
           "tensors of a GGUF file as they are, others in bf16")
        ->check(CLI::IsMember(weight_names()))
        ->capture_default_str();
    app.add_option("--isa", isa,
                   "Instruction set: scalar, avx2, avx512, avx512-bf16 or amx; default: the fastest of this processor. "
                   "With bf16 weights amx gives other last bits than the rest");
    app.add_option("--threads", threads, "Threads; default: all processors")->check(CLI::Range(1, 1024));
  }
  app.add_flag("-v,--verbose", verbose, "Print the memory plan and other details on stderr");
}

Log ModelArguments::log() const {
  return Log(verbose ? LogLevel::kDebug : LogLevel::kInfo);
}

int ModelArguments::thread_count() const {
  const int available = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  if (threads > available) {
    log().warning("--threads " + std::to_string(threads) + " on " + std::to_string(available) + " processors");
  }
  return threads > 0 ? threads : available;
}

ModelFiles ModelArguments::open() const {
  ModelFiles files = open_model(model, {.adapter = adapter});
  if (!attention.empty()) files.config.set_attention(attention);
  if (!encoder_attention.empty()) {
    files.config.encoder_attention = encoder_attention;
    files.config.encoder_attention_trained = false;
  }
  if (files.config.bidirectional && !encoders) {
    throw NotSupported(error_text(model, "a decoder", files.config.family + ", an encoder", "`score` or `encode`"));
  }
  if (files.config.encoder_layers > 0 && !encoder_decoders) {
    throw NotSupported(
        error_text(model, "a decoder", files.config.family + ", an encoder-decoder", "`generate` or `score`"));
  }
  return files;
}

std::unique_ptr<Model> ModelArguments::load(const ModelFiles& files, int64_t tokens) const {
  const bool own = weights == "own";
  const WeightType type = own ? WeightType::kBf16 : weight_type_by_name(weights);
  if (verbose || is_terminal(2)) log().info(memory_plan_text(plan_memory(files, type, tokens)));
  auto loaded = load_model(
      files, {.weights = type, .own_weights = own, .kernels = isa.empty() ? nullptr : &kernels_for(isa_by_name(isa))});
  if (const auto& converted = loaded->converted(); !converted.empty()) {
    log().warning(
        "--weights own: " + std::to_string(converted.size()) +
        " quantized tensors have no weight type of their own or were changed by an adapter, and run in bf16: " +
        converted[0] + (converted.size() > 1 ? ", …" : ""));
  }
  return loaded;
}

std::string read_input(const std::string& path) {
  if (path != "-") return read_text_file(path);
  return {std::istreambuf_iterator<char>(std::cin), {}};
}

std::unique_ptr<Tokenizer> tokenizer_of(const ModelFiles& files) {
  return files.tokenizer.pieces.empty() ? nullptr : make_tokenizer(files.tokenizer);
}

std::unique_ptr<Tokenizer> required_tokenizer(const ModelFiles& files) {
  auto tokenizer = tokenizer_of(files);
  if (!tokenizer) throw NotSupported(error_text(files.tensors->where(), "a model with a tokenizer", "none"));
  return tokenizer;
}

std::vector<int32_t> token_ids(const nlohmann::json& array, int64_t vocab_size, const std::string& where) {
  const auto refuse = [&](const std::string& got) {
    throw InvalidArgument(error_text(where, "ids in [0, " + std::to_string(vocab_size) + ")", got));
  };
  if (!array.is_array()) refuse("no array");
  std::vector<int32_t> tokens;
  for (const auto& id : array) {
    if (!id.is_number_integer() || id < 0 || id >= vocab_size) refuse(id.dump().substr(0, 80));
    tokens.push_back(id.get<int32_t>());
  }
  return tokens;
}

}  // namespace espalier
