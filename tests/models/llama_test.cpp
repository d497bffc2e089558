// The LLaMA forward against plain f64 loops.
#include "models/llama.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "support/tiny_model.h"

namespace espalier {
namespace {

using Matrix = std::vector<std::vector<double>>;  // [rows][columns]

class PlainLlama {
 public:
  explicit PlainLlama(const ModelFiles& files) : files_(files) {}

  Matrix logits(const std::vector<int32_t>& tokens) const {
    const ModelConfig& config = files_.config;
    const std::vector<float> embed = read("model.embed_tokens.weight");
    Matrix x;
    for (const int32_t token : tokens) {
      const float* row = embed.data() + token * config.hidden_size;
      x.emplace_back(row, row + config.hidden_size);
    }
    for (int64_t l = 0; l < config.num_hidden_layers; ++l) {
      const std::string prefix = "model.layers." + std::to_string(l) + ".";
      add(x, attention(norm(x, prefix + "input_layernorm.weight"), prefix + "self_attn."));
      const Matrix h = norm(x, prefix + "post_attention_layernorm.weight");
      Matrix gate = linear(h, prefix + "mlp.gate_proj.weight");
      const Matrix up = linear(h, prefix + "mlp.up_proj.weight");
      for (size_t t = 0; t < gate.size(); ++t) {
        for (size_t i = 0; i < gate[t].size(); ++i) gate[t][i] *= up[t][i] / (1.0 + std::exp(-gate[t][i]));
      }
      add(x, linear(gate, prefix + "mlp.down_proj.weight"));
    }
    return linear(norm(x, "model.norm.weight"),
                  config.tie_word_embeddings ? "model.embed_tokens.weight" : "lm_head.weight");
  }

 private:
  std::vector<float> read(const std::string& name) const {
    std::vector<float> values(static_cast<size_t>(files_.tensors->find(name)->elements()));
    files_.tensors->read(name, values.data());
    return values;
  }

  Matrix linear(const Matrix& x, const std::string& name) const {
    const std::vector<float> w = read(name);
    const size_t inputs = x[0].size(), outputs = w.size() / inputs;
    Matrix y(x.size(), std::vector<double>(outputs, 0.0));
    for (size_t t = 0; t < x.size(); ++t) {
      for (size_t o = 0; o < outputs; ++o) {
        for (size_t i = 0; i < inputs; ++i) y[t][o] += x[t][i] * w[o * inputs + i];
      }
    }
    return y;
  }

  Matrix norm(const Matrix& x, const std::string& name) const {
    const std::vector<float> w = read(name);
    Matrix y = x;
    for (std::vector<double>& row : y) {
      double sum = 0.0;
      for (const double value : row) sum += value * value;
      const double factor = 1.0 / std::sqrt(sum / static_cast<double>(row.size()) + files_.config.norm_eps);
      for (size_t i = 0; i < row.size(); ++i) row[i] *= factor * w[i];
    }
    return y;
  }

  static void add(Matrix& x, const Matrix& y) {
    for (size_t t = 0; t < x.size(); ++t) {
      for (size_t i = 0; i < x[t].size(); ++i) x[t][i] += y[t][i];
    }
  }

  // Radians per position, stretched by wavelength (tests/data/models/make_rotary.py has the same rules).
  double frequency(int64_t i) const {
    const RopeScaling& scaling = files_.config.rope_scaling;
    const double plain = std::pow(files_.config.rope_theta, -2.0 * i / double(files_.config.head_dim));
    const double stretched = plain / scaling.factor;
    if (scaling.kind == RopeScaling::Kind::kNone) return plain;
    if (scaling.kind == RopeScaling::Kind::kLinear) return stretched;
    const double waves = scaling.original_positions / (2.0 * std::acos(-1.0) / plain);
    if (waves < scaling.low_frequency_factor) return stretched;
    if (waves > scaling.high_frequency_factor) return plain;
    const double smooth =
        (waves - scaling.low_frequency_factor) / (scaling.high_frequency_factor - scaling.low_frequency_factor);
    return (1.0 - smooth) * stretched + smooth * plain;
  }

  void rotate(Matrix& x) const {
    const int64_t dim = files_.config.head_dim, half = dim / 2;
    for (size_t t = 0; t < x.size(); ++t) {
      for (size_t start = 0; start < x[t].size(); start += static_cast<size_t>(dim)) {
        for (int64_t i = 0; i < half; ++i) {
          const double angle = static_cast<double>(t) * frequency(i);
          double& a = x[t][start + i];
          double& b = x[t][start + i + half];
          const double rotated = a * std::cos(angle) - b * std::sin(angle);
          b = b * std::cos(angle) + a * std::sin(angle);
          a = rotated;
        }
      }
    }
  }

  Matrix attention(const Matrix& x, const std::string& prefix) const {
    const int64_t dim = files_.config.head_dim;
    const int64_t group = files_.config.num_attention_heads / files_.config.num_key_value_heads;
    Matrix q = linear(x, prefix + "q_proj.weight"), k = linear(x, prefix + "k_proj.weight");
    const Matrix v = linear(x, prefix + "v_proj.weight");
    rotate(q);
    rotate(k);
    Matrix out(x.size(), std::vector<double>(q[0].size(), 0.0));
    for (size_t t = 0; t < x.size(); ++t) {
      for (int64_t h = 0; h < files_.config.num_attention_heads; ++h) {
        const int64_t q0 = h * dim, k0 = h / group * dim;
        std::vector<double> weight(t + 1);
        double sum = 0.0;
        for (size_t s = 0; s <= t; ++s) {
          double score = 0.0;
          for (int64_t i = 0; i < dim; ++i) score += q[t][q0 + i] * k[s][k0 + i];
          weight[s] = std::exp(score / std::sqrt(double(dim)));
          sum += weight[s];
        }
        for (size_t s = 0; s <= t; ++s) {
          for (int64_t i = 0; i < dim; ++i) out[t][q0 + i] += weight[s] / sum * v[s][k0 + i];
        }
      }
    }
    return linear(out, prefix + "o_proj.weight");
  }

  const ModelFiles& files_;
};

struct Rope {
  double theta = 10000.0;
  RopeScaling scaling = {};
};

double worst_difference(const testing::TinyModel& shape, WeightType weights, const Rope& rope = {}) {
  ModelFiles files = testing::make_tiny_model(shape);
  files.config.rope_theta = rope.theta;
  files.config.rope_scaling = rope.scaling;
  const std::vector<int32_t> tokens = testing::random_tokens(37, shape.vocab_size, 2);
  const Matrix plain = PlainLlama(files).logits(tokens);
  const auto model = load_model(files, {.weights = weights});
  Workspace workspace(2);
  SequenceState state = model->new_state();
  double worst = 0.0;
  model->prefill(
      state, tokens, workspace,
      [&](int64_t index, const float* logits) {
        for (int64_t i = 0; i < shape.vocab_size; ++i) worst = std::max(worst, std::abs(plain[index][i] - logits[i]));
      },
      nullptr, 16);
  return worst;
}

TEST(Llama, EqualsPlainLoops) {
  EXPECT_LT(worst_difference({}, WeightType::kF32), 2e-4);
  EXPECT_LT(worst_difference({.heads = 4, .heads_kv = 2, .head_dim = 10, .tied = false}, WeightType::kF32), 2e-4);
  EXPECT_LT(worst_difference({.hidden_size = 31, .heads = 5, .heads_kv = 5, .head_dim = 6}, WeightType::kF32), 2e-4);
}

TEST(Llama, EqualsPlainLoopsHoweverPositionsAreStretched) {
  using Kind = RopeScaling::Kind;
  EXPECT_LT(worst_difference({}, WeightType::kF32, {.theta = 37.0}), 2e-4);
  EXPECT_LT(worst_difference({}, WeightType::kF32, {.scaling = {.kind = Kind::kLinear, .factor = 3.0}}), 2e-4);
  // Of eight pairs some are kept, some stretched and some mixed.
  const RopeScaling mixed = {.kind = Kind::kLlama3,
                             .factor = 5.0,
                             .low_frequency_factor = 1.0,
                             .high_frequency_factor = 4.0,
                             .original_positions = 20.0};
  EXPECT_LT(worst_difference({}, WeightType::kF32, {.theta = 50.0, .scaling = mixed}), 2e-4);
}

TEST(Llama, Bf16StaysNear) {
  const double worst = worst_difference({}, WeightType::kBf16);
  EXPECT_LT(worst, 0.5);
  EXPECT_GT(worst, 1e-4);  // bf16 was used at all
}

// The table and the head lie within half a step of 8 bits of the file's numbers, a step being max |w| / 127 of 32
// inputs, also where all other matrices have 4 bits: these are off by several such steps.
TEST(Llama, TableAndHeadHaveEightBitsWhereTheOthersHaveFour) {
  for (const bool tied : {true, false}) {
    const testing::TinyModel shape{.tied = tied};
    const ModelFiles files = testing::make_tiny_model(shape);
    const auto read = [&](const char* name) {
      return files.tensors->read_checked(name, {shape.vocab_size, shape.hidden_size});
    };
    const std::vector<float> table = read("model.embed_tokens.weight");
    const std::vector<float> head = tied ? table : read("lm_head.weight");
    const auto expect_eight_bits = [&](const float* got, const float* exact) {
      for (int64_t begin = 0; begin < shape.hidden_size; begin += 32) {
        const int64_t end = std::min(begin + 32, shape.hidden_size);
        float most = 0;
        for (int64_t i = begin; i < end; ++i) most = std::max(most, std::abs(exact[i]));
        for (int64_t i = begin; i < end; ++i) ASSERT_NEAR(got[i], exact[i], 0.51 * most / 127) << "input " << i;
      }
    };
    for (const WeightType weights : {WeightType::kInt8, WeightType::kInt4, WeightType::kInt4Min}) {
      const auto model = load_model(files, {.weights = weights});
      std::vector<float> embedding(static_cast<size_t>(shape.hidden_size)), row = embedding;
      for (int32_t token = 0; token < shape.vocab_size; ++token) {
        SCOPED_TRACE(std::string(weight_type_name(weights)) + (tied ? ", tied, token " : ", token ") +
                     std::to_string(token));
        model->token_rows(token, embedding.data(), row.data());
        expect_eight_bits(embedding.data(), table.data() + token * shape.hidden_size);
        expect_eight_bits(row.data(), head.data() + token * shape.hidden_size);
        if (HasFatalFailure()) return;
      }
    }
  }
}

}  // namespace
}  // namespace espalier
