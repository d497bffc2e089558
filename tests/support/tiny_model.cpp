#include "support/tiny_model.h"

#include <cmath>

#include "core/rng.h"
#include "models/bert.h"
#include "models/flash.h"
#include "models/gpt2.h"
#include "models/llama.h"
#include "models/step_loader.h"
#include "models/t5.h"

namespace espalier::testing {
namespace {

// A Context and a Loader that make the tensors which a family's text asks for.
struct RandomContext {
  using Matrix = bool;
  using Vector = bool;
  using Tensor = bool;
  using Tokens = bool;
};

class RandomLoader {
 public:
  explicit RandomLoader(uint64_t seed) : random_(seed) {}

  bool matrix(const std::string& name, int64_t outputs, int64_t inputs, bool bias = false) {
    const bool table = outputs_are_looked_up(name);
    normal(name + ".weight", {outputs, inputs}, table ? 1.0f : 1.5f / std::sqrt(static_cast<float>(inputs)));
    if (bias) normal(name + ".bias", {outputs}, 0.3f);
    return true;
  }
  bool relative_bias(const std::string& name, const ModelConfig& config) {
    normal(name, {config.relative_bias_buckets, config.num_attention_heads}, 1.0f);
    return true;
  }
  bool has(const std::string&) const { return true; }
  bool vector(const std::string& name, int64_t n) {
    normal(name, {n}, 0.1f, name.ends_with("bias") ? 0.0f : 1.0f);
    return true;
  }
  void normal(const std::string& name, const std::vector<int64_t>& shape, float scale, float mean = 0.0f) {
    int64_t elements = 1;
    for (const int64_t extent : shape) elements *= extent;
    std::vector<float> values(static_cast<size_t>(elements));
    for (float& value : values) value = mean + scale * random_.normal();
    tensors_->add(name, shape, std::move(values));
  }

  std::shared_ptr<MemoryTensorSource> tensors() const { return tensors_; }

 private:
  static bool outputs_are_looked_up(const std::string& name) {
    for (const char* table : {"embed_tokens", "wte", "wpe", "shared", "token_emb", "_embeddings"}) {
      if (name.ends_with(table)) return true;
    }
    return false;
  }
  Random random_;
  std::shared_ptr<MemoryTensorSource> tensors_ = std::make_shared<MemoryTensorSource>();
};

void add_mechanism_parameters(RandomLoader& loader, const ModelConfig& config, int64_t layer,
                              const std::vector<MechanismEntry>& more) {
  const auto mechanism =
      make_mechanism(AttentionSpec::parse(config.attention[layer]), attention_shape(config, layer), more);
  for (const ParameterInfo& parameter : mechanism->parameters()) {
    const float scale = parameter.feature ? 1.0f / std::sqrt(static_cast<float>(config.head_dim)) : 0.3f;
    loader.normal(parameter_name(config, parameter, layer), parameter.shape, scale);
  }
}

// What a family's files say of it.
void set_family(ModelConfig& config, const std::string& family) {
  config.family = family;
  config.rotary_dim = family == "llama" ? -1 : 0;  // -1: all of a head
  if (family == "flash") {
    config.value_dim = 40;
    config.rotary_dim = 6;
    config.scale_norm = config.token_shift = true;
    config.relative_bias_buckets = 14;
    config.relative_bias_reach = 40;
    config.relative_bias_scale = 2.0;
  }
  if (family == "gpt2") {
    config.learned_positions = true;
    config.attention_bias = config.mlp_bias = true;
    config.activation = Activation::kGeluTanh;
  }
  if (family == "bert") {
    config.bidirectional = config.learned_positions = config.attention_bias = config.mlp_bias = true;
    config.token_types = 2;
    config.labels = 3;
    config.activation = Activation::kGelu;
  }
  if (family == "t5") {
    config.encoder_layers = 2;
    config.relative_bias_buckets = 14;
    config.relative_bias_reach = 40;
    config.attention_scale = 1.0;
    config.gated_mlp = true;
    config.activation = Activation::kGeluTanh;
    config.logit_scale = 0.3;
  }
}

}  // namespace

ModelFiles make_tiny_model(const TinyModel& shape) {
  ModelFiles files;
  ModelConfig& config = files.config;
  set_family(config, shape.family);
  config.vocab_size = shape.vocab_size;
  config.hidden_size = shape.hidden_size;
  config.intermediate_size = shape.intermediate_size;
  config.num_hidden_layers = shape.layers;
  config.num_attention_heads = shape.family == "flash" ? 1 : shape.heads;
  config.num_key_value_heads = shape.family == "flash" ? 1 : shape.heads_kv;
  config.head_dim = shape.head_dim;
  config.max_position_embeddings = shape.max_positions;
  config.tie_word_embeddings = shape.tied;
  config.encoder_attention = shape.encoder_attention;
  for (int64_t l = 0; l < shape.layers; ++l) {
    config.attention.push_back(shape.attention[static_cast<size_t>(l) % shape.attention.size()]);
  }

  RandomLoader loader(shape.seed);
  if (config.rotary_dim < 0) config.rotary_dim = config.head_dim;
  if (shape.family == "llama") Llama::load<RandomContext>(loader, config);
  if (shape.family == "flash") Flash::load<RandomContext>(loader, config);
  if (shape.family == "bert") Bert::load<RandomContext>(loader, config);
  if (shape.family == "gpt2") Gpt2::load<RandomContext>(loader, config);
  if (shape.family == "t5") {
    T5::Decoder::load<RandomContext>(loader, config);
    T5::Encoder::load<RandomContext>(loader, T5::encoder_config(config));
  }
  for (int64_t l = 0; l < shape.layers; ++l) add_mechanism_parameters(loader, config, l, shape.more_mechanisms);
  if (shape.family == "t5") {
    const ModelConfig encoder = T5::encoder_config(config);
    for (int64_t l = 0; l < config.encoder_layers; ++l) add_mechanism_parameters(loader, encoder, l, {});
  }
  files.tensors = loader.tensors();
  return files;
}

std::unique_ptr<Model> load_tiny_model(const TinyModel& shape, WeightType weights, const Kernels* kernels) {
  return load_model(make_tiny_model(shape),
                    {.weights = weights, .kernels = kernels, .more_mechanisms = shape.more_mechanisms});
}

SequenceState start(const Model& model) {
  if (model.config().encoder_layers == 0) return model.new_state();
  Workspace workspace(1);
  return model.read_source(random_tokens(37, model.config().vocab_size, 11), workspace);
}

std::vector<int32_t> random_tokens(int64_t count, int64_t vocab_size, uint64_t seed) {
  Random random(seed, 7);
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  for (int32_t& token : tokens) token = static_cast<int32_t>(random.below(vocab_size));
  return tokens;
}

}  // namespace espalier::testing
