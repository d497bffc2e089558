#include "models/step_loader.h"

#include "core/error.h"

namespace espalier {

PackedMatrix StepLoader::matrix(const std::string& name, int64_t outputs, int64_t inputs) {
  const std::vector<float> values = tensors_.read_checked(name, {outputs, inputs});
  PackedMatrix packed(values.data(), outputs, inputs, type_, memory_);
  bytes_ += packed.bytes();
  parameters_ += outputs * inputs;
  return packed;
}

std::vector<float> StepLoader::vector(const std::string& name, int64_t n) {
  bytes_ += n * static_cast<int64_t>(sizeof(float));
  parameters_ += n;
  return tensors_.read_checked(name, {n});
}

std::vector<float> initial_values(const ParameterInfo& parameter) {
  int64_t elements = 1;
  for (const int64_t extent : parameter.shape) elements *= extent;
  std::vector<float> values(static_cast<size_t>(elements), parameter.init == Init::kOne ? 1.0f : 0.0f);
  if (parameter.init == Init::kIdentity) {
    ESPALIER_CHECK(parameter.shape.size() >= 2);
    const int64_t columns = parameter.shape.back(), rows = parameter.shape[parameter.shape.size() - 2];
    for (int64_t i = 0; i < elements; ++i) values[i] = (i / columns) % rows == i % columns ? 1.0f : 0.0f;
  }
  return values;
}

std::vector<std::unique_ptr<Mechanism>> load_mechanisms(const ModelConfig& config, const TensorSource& tensors) {
  if (static_cast<int64_t>(config.attention.size()) != config.num_hidden_layers) {
    throw CorruptFile(error_text(tensors.where() + ": attention", std::to_string(config.num_hidden_layers) + " layers",
                                 std::to_string(config.attention.size())));
  }
  std::vector<std::unique_ptr<Mechanism>> mechanisms;
  for (int64_t l = 0; l < config.num_hidden_layers; ++l) {
    const AttentionShape shape{.heads = static_cast<int>(config.num_attention_heads),
                               .heads_kv = static_cast<int>(config.num_key_value_heads),
                               .dim_k = static_cast<int>(config.head_dim),
                               .dim_v = static_cast<int>(config.head_dim),
                               .layer = static_cast<int>(l),
                               .layers = static_cast<int>(config.num_hidden_layers)};
    auto mechanism = make_mechanism(AttentionSpec::parse(config.attention[l]), shape);
    std::vector<std::vector<float>> values;
    for (const ParameterInfo& parameter : mechanism->parameters()) {
      const std::string name = "model.layers." + std::to_string(l) + ".self_attn." + parameter.name;
      const bool stored = config.attention_trained || tensors.find(name);
      values.push_back(stored ? tensors.read_checked(name, parameter.shape) : initial_values(parameter));
    }
    mechanism->load(values);
    mechanisms.push_back(std::move(mechanism));
  }
  return mechanisms;
}

}  // namespace espalier
