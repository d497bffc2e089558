#include "support/tiny_llama.h"

#include <cmath>

#include "core/rng.h"
#include "models/step_loader.h"

namespace espalier::testing {
namespace {

class Builder {
 public:
  explicit Builder(uint64_t seed) : random_(seed) {}

  void normal(const std::string& name, const std::vector<int64_t>& shape, float scale, float mean = 0.0f) {
    int64_t elements = 1;
    for (const int64_t extent : shape) elements *= extent;
    std::vector<float> values(static_cast<size_t>(elements));
    for (float& value : values) value = mean + scale * random_.normal();
    tensors_->add(name, shape, std::move(values));
  }

  std::shared_ptr<MemoryTensorSource> tensors() const { return tensors_; }

 private:
  Random random_;
  std::shared_ptr<MemoryTensorSource> tensors_ = std::make_shared<MemoryTensorSource>();
};

void add_mechanism_parameters(Builder& builder, const ModelConfig& config, int64_t layer, const std::string& prefix,
                              const std::vector<MechanismEntry>& more) {
  const auto mechanism =
      make_mechanism(AttentionSpec::parse(config.attention[layer]), attention_shape(config, layer), more);
  for (const ParameterInfo& parameter : mechanism->parameters()) {
    const float scale = parameter.feature ? 1.0f / std::sqrt(static_cast<float>(config.head_dim)) : 0.3f;
    builder.normal(prefix + "self_attn." + parameter.name, parameter.shape, scale);
  }
}

}  // namespace

ModelFiles make_tiny_llama(const TinyLlama& shape) {
  ModelFiles files;
  ModelConfig& config = files.config;
  config.family = "llama";
  config.vocab_size = shape.vocab_size;
  config.hidden_size = shape.hidden_size;
  config.intermediate_size = shape.intermediate_size;
  config.num_hidden_layers = shape.layers;
  config.num_attention_heads = shape.heads;
  config.num_key_value_heads = shape.heads_kv;
  config.head_dim = shape.head_dim;
  config.max_position_embeddings = shape.max_positions;
  config.tie_word_embeddings = shape.tied;
  for (int64_t l = 0; l < shape.layers; ++l) {
    config.attention.push_back(shape.attention[static_cast<size_t>(l) % shape.attention.size()]);
  }

  Builder builder(shape.seed);
  const int64_t d = shape.hidden_size, q = shape.heads * shape.head_dim, kv = shape.heads_kv * shape.head_dim;
  const auto scale = [](int64_t inputs) { return 1.5f / std::sqrt(static_cast<float>(inputs)); };
  builder.normal("model.embed_tokens.weight", {shape.vocab_size, d}, 1.0f);
  for (int64_t l = 0; l < shape.layers; ++l) {
    const std::string prefix = "model.layers." + std::to_string(l) + ".";
    builder.normal(prefix + "input_layernorm.weight", {d}, 0.1f, 1.0f);
    builder.normal(prefix + "post_attention_layernorm.weight", {d}, 0.1f, 1.0f);
    builder.normal(prefix + "self_attn.q_proj.weight", {q, d}, scale(d));
    builder.normal(prefix + "self_attn.k_proj.weight", {kv, d}, scale(d));
    builder.normal(prefix + "self_attn.v_proj.weight", {kv, d}, scale(d));
    builder.normal(prefix + "self_attn.o_proj.weight", {d, q}, scale(q));
    builder.normal(prefix + "mlp.gate_proj.weight", {shape.intermediate_size, d}, scale(d));
    builder.normal(prefix + "mlp.up_proj.weight", {shape.intermediate_size, d}, scale(d));
    builder.normal(prefix + "mlp.down_proj.weight", {d, shape.intermediate_size}, scale(shape.intermediate_size));
    add_mechanism_parameters(builder, config, l, prefix, shape.more_mechanisms);
  }
  builder.normal("model.norm.weight", {d}, 0.1f, 1.0f);
  if (!shape.tied) builder.normal("lm_head.weight", {shape.vocab_size, d}, scale(d));
  files.tensors = builder.tensors();
  return files;
}

std::unique_ptr<Model> load_tiny_llama(const TinyLlama& shape, WeightType weights, const Kernels* kernels) {
  return load_model(make_tiny_llama(shape),
                    {.weights = weights, .kernels = kernels, .more_mechanisms = shape.more_mechanisms});
}

std::vector<int32_t> random_tokens(int64_t count, int64_t vocab_size, uint64_t seed) {
  Random random(seed, 7);
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  for (int32_t& token : tokens) token = static_cast<int32_t>(random.below(vocab_size));
  return tokens;
}

}  // namespace espalier::testing
