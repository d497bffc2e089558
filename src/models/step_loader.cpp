#include "models/step_loader.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/rng.h"

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

namespace {

// Normal rows of [rows][columns] whose directions are orthogonal within blocks of `columns` rows: FAVOR+'s (arXiv
// 2009.14794, section 2.4). Gram-Schmidt in double; each row keeps the length that it was drawn with.
void make_orthogonal(float* values, int64_t rows, int64_t columns) {
  std::vector<double> block(static_cast<size_t>(columns * columns));
  for (int64_t row = 0; row < rows; ++row) {
    float* x = values + row * columns;
    double* unit = block.data() + row % columns * columns;
    double squares = 0;
    for (int64_t c = 0; c < columns; ++c) squares += double{x[c]} * x[c];
    std::copy(x, x + columns, unit);
    const auto dot = [&](const double* a, const double* b) {
      double sum = 0;
      for (int64_t c = 0; c < columns; ++c) sum += a[c] * b[c];
      return sum;
    };
    for (int64_t earlier = 0; earlier < row % columns; ++earlier) {
      const double* other = block.data() + earlier * columns;
      const double along = dot(unit, other);
      for (int64_t c = 0; c < columns; ++c) unit[c] -= along * other[c];
    }
    const double length = std::sqrt(dot(unit, unit));
    for (int64_t c = 0; c < columns; ++c) {
      unit[c] /= length;
      x[c] = static_cast<float>(unit[c] * std::sqrt(squares));
    }
  }
}

}  // namespace

AttentionShape attention_shape(const ModelConfig& config, int64_t layer) {
  return {.heads = static_cast<int>(config.num_attention_heads),
          .heads_kv = static_cast<int>(config.num_key_value_heads),
          .dim_k = static_cast<int>(config.head_dim),
          .dim_v = static_cast<int>(config.head_dim),
          .hidden = static_cast<int>(config.hidden_size),
          .layer = static_cast<int>(layer),
          .layers = static_cast<int>(config.num_hidden_layers)};
}

std::string parameter_name(const ParameterInfo& parameter, int64_t layer) {
  return "model.layers." + std::to_string(layer) + ".self_attn." + parameter.name;
}

std::vector<float> initial_values(const ParameterInfo& parameter, int64_t layer) {
  int64_t elements = 1;
  for (const int64_t extent : parameter.shape) elements *= extent;
  std::vector<float> values(static_cast<size_t>(elements), parameter.init == Init::kOne ? 1.0f : 0.0f);
  const int64_t columns = parameter.shape.back();
  const int64_t rows = parameter.shape.size() < 2 ? 1 : parameter.shape[parameter.shape.size() - 2];
  if (parameter.init == Init::kIdentity) {
    for (int64_t i = 0; i < elements; ++i) values[i] = (i / columns) % rows == i % columns ? 1.0f : 0.0f;
  }
  if (parameter.init == Init::kMeans) {
    for (int64_t i = 0; i < elements; ++i) {
      const int64_t row = i / columns % rows, first = row * columns / rows, last = (row + 1) * columns / rows;
      const int64_t column = i % columns;
      values[i] = column >= first && column < last ? 1.0f / static_cast<float>(last - first) : 0.0f;
    }
  }
  if (parameter.init == Init::kNormal || parameter.init == Init::kOrthogonal) {
    uint64_t seed = 0;
    for (const char c : parameter.name) seed = seed * 257 + static_cast<unsigned char>(c);
    Random random(seed, static_cast<uint64_t>(layer));
    for (float& value : values) value = random.normal();
  }
  if (parameter.init == Init::kOrthogonal) {
    for (int64_t i = 0; i < elements; i += rows * columns) make_orthogonal(values.data() + i, rows, columns);
  }
  return values;
}

std::vector<std::unique_ptr<Mechanism>> load_mechanisms(const ModelConfig& config, const TensorSource& tensors,
                                                        const std::vector<MechanismEntry>& more) {
  if (static_cast<int64_t>(config.attention.size()) != config.num_hidden_layers) {
    throw CorruptFile(error_text(tensors.where() + ": attention", std::to_string(config.num_hidden_layers) + " layers",
                                 std::to_string(config.attention.size())));
  }
  std::vector<std::unique_ptr<Mechanism>> mechanisms;
  for (int64_t l = 0; l < config.num_hidden_layers; ++l) {
    auto mechanism = make_mechanism(AttentionSpec::parse(config.attention[l]), attention_shape(config, l), more);
    std::vector<std::vector<float>> values;
    for (const ParameterInfo& parameter : mechanism->parameters()) {
      const std::string name = parameter_name(parameter, l);
      const bool stored = config.attention_trained || tensors.find(name);
      values.push_back(stored ? tensors.read_checked(name, parameter.shape) : initial_values(parameter, l));
    }
    mechanism->load(values);
    mechanisms.push_back(std::move(mechanism));
  }
  return mechanisms;
}

}  // namespace espalier
