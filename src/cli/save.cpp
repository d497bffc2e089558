#include <list>

#include "checkpoint/hf_writer.h"
#include "cli/model_arguments.h"
#include "core/progress.h"
#include "models/registry.h"
#include "models/step_loader.h"
#include "program/interrupt.h"

namespace espalier {
namespace {

struct Arguments {
  ModelArguments model;
  std::string out, dtype = "f32";
};

// The parameters of all layers' mechanisms: trained ones as they are, others at their initial values. `values` keeps
// them.
void add_attention(const ModelConfig& config, const TensorSource& tensors, std::vector<TensorToWrite>& attention,
                   std::list<std::vector<float>>& values) {
  for (int64_t l = 0; l < config.num_hidden_layers; ++l) {
    const auto spec = AttentionSpec::parse(config.attention[static_cast<size_t>(l)]);
    const auto mechanism = make_mechanism(spec, attention_shape(config, l));
    check_fits(config, *mechanism, l);
    auto own = mechanism_parameters(config, tensors, l, *mechanism);
    size_t next = 0;
    for (const ParameterInfo& parameter : mechanism->parameters()) {
      values.push_back(std::move(own[next++]));
      attention.push_back(
          {.name = parameter_name(config, parameter, l), .shape = parameter.shape, .values = values.back().data()});
    }
  }
}

int run(const Arguments& arguments) {
  const ModelFiles files = arguments.model.open();
  HfDirectory content{.type = arguments.dtype == "bf16" ? StoredType::kBf16 : StoredType::kF32};
  std::list<std::vector<float>> values;
  add_attention(files.config, *files.tensors, content.attention, values);
  if (const auto encoder_config = model_family(files.config.family).encoder_config) {
    add_attention(encoder_config(files.config), *files.tensors, content.attention, values);
  }
  struct Interrupted {};
  content.progress = [show = progress_function("save")](int64_t done, int64_t total) {
    if (interrupted()) throw Interrupted();
    if (show) show(done, total);
  };
  install_interrupt();
  try {
    write_hf_directory(files, content, arguments.out);
  } catch (const Interrupted&) {
    arguments.model.log().warning("interrupted: nothing was written");
    return kExitInterrupted;
  }
  arguments.model.log().info("wrote " + arguments.out);
  return kExitOk;
}

Action add(CLI::App& app) {
  const auto arguments = std::make_shared<Arguments>();
  app.footer(
      "A model as a directory in Hugging Face's layout: weights with what an adapter changes, config.json, tokenizer. "
      "transformers reads a model of plain attention as its own; a linearized one says its attention under "
      "\"espalier\" in config.json and is read by every verb here.\n\n"
      "  espalier save models/smollm2-135m-instruct.gguf --out smollm2 --dtype bf16\n"
      "  espalier save MODEL --adapter adapters/smollm2-135m-lolcats --out linear && espalier generate linear --prompt "
      "Hello");
  arguments->model.encoders = arguments->model.encoder_decoders = true;
  arguments->model.runs = false;
  arguments->model.add_to(app);
  app.add_option("--out", arguments->out, "The directory to make; it must not exist, or be empty")->required();
  app.add_option("--dtype", arguments->dtype, "Stored weights: f32 or bf16")
      ->check(CLI::IsMember({"f32", "bf16"}))
      ->capture_default_str();
  return [arguments] { return run(*arguments); };
}

}  // namespace

Verb save_verb() {
  return {"save", "Write a model as a Hugging Face directory, adapter included", add};
}

}  // namespace espalier
