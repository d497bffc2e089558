// Rotary positions against transformers' (tests/data/models/make_rotary.py): frequencies, angles at far positions, and
// how config.json names the ways to stretch them.
#include "models/rotary.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "checkpoint/family_files.h"
#include "checkpoint/json_file.h"
#include "core/error.h"
#include "models/step_context.h"

namespace espalier {
namespace {

using Json = nlohmann::json;

Json golden_cases() {
  return read_json_file(std::string(ESPALIER_TEST_DATA) + "/models/rotary.json")["cases"];
}

// A LLaMA's config.json.
Json config_json(int64_t head_dim) {
  return {{"model_type", "llama"},  {"vocab_size", 10},       {"hidden_size", 8},
          {"intermediate_size", 8}, {"num_hidden_layers", 1}, {"num_attention_heads", 2},
          {"head_dim", head_dim},   {"rms_norm_eps", 1e-5},   {"max_position_embeddings", 1000}};
}

// Every case as transformers 5 writes it, and as earlier versions did.
std::vector<ModelConfig> configs_of(const Json& golden) {
  const Json& rope = golden["rope"];
  Json now = config_json(golden["dim"]), before = now;
  now["rope_parameters"] = rope;
  before["rope_theta"] = rope["rope_theta"];
  if (rope["rope_type"] != "default") {
    before["rope_scaling"] = rope;
    before["rope_scaling"].erase("rope_theta");
  }
  std::vector<ModelConfig> configs = {read_model_config(now), read_model_config(before)};
  if (before.contains("rope_scaling")) {  // the oldest name of the type
    before["rope_scaling"]["type"] = rope["rope_type"];
    before["rope_scaling"].erase("rope_type");
    configs.push_back(read_model_config(before));
  }
  return configs;
}

TEST(Rotary, FrequenciesAreThoseOfTransformers) {
  for (const Json& golden : golden_cases()) {
    for (const ModelConfig& config : configs_of(golden)) {
      const std::vector<double> frequencies = rotary_frequencies(config);
      const Json& expected = golden["inv_freq"];
      ASSERT_EQ(frequencies.size(), expected.size()) << golden["rope"].dump();
      for (size_t i = 0; i < frequencies.size(); ++i) {
        // Theirs are f32.
        ASSERT_NEAR(frequencies[i] / expected[i].get<double>(), 1.0, 1e-6) << golden["rope"].dump() << " pair " << i;
      }
    }
  }
}

// Each pair of each head turns by the angle of its row's position, exact to a float's last bits however far that is;
// what lies behind the rotated dimensions stays.
TEST(Rotary, RowsTurnByTheAnglesOfTheirPositions) {
  constexpr int64_t kHeads = 3, kBehind = 4;
  for (const Json& golden : golden_cases()) {
    ModelConfig config = configs_of(golden)[0];
    const int64_t dim = golden["dim"], half = dim / 2, head_dim = dim + kBehind;
    config.head_dim = head_dim;
    StepRows step_rows;
    std::map<int64_t, int64_t> row_of;
    for (const Json& angle : golden["angles"]) {
      if (row_of.emplace(angle[0], row_of.size()).second) step_rows.positions.push_back(angle[0]);
    }
    const int64_t rows = static_cast<int64_t>(row_of.size());
    Workspace workspace(1);
    const std::vector<std::unique_ptr<Mechanism>> none;
    std::vector<Pending> pending;
    StepContext context(best_kernels(), workspace, none, config, step_rows, pending);
    std::vector<float> values(static_cast<size_t>(rows * kHeads * head_dim));
    const auto at = [&](int64_t row, int64_t head, int64_t i) -> float& {
      return values[static_cast<size_t>((row * kHeads + head) * head_dim + i)];
    };
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t h = 0; h < kHeads; ++h) {
        for (int64_t i = 0; i < head_dim; ++i) at(r, h, i) = i >= dim ? 7.0f : i < half ? float(h + 1) : 0.5f;
      }
    }
    context.rotate({values.data(), rows, kHeads * head_dim}, kHeads, head_dim);
    for (const Json& angle : golden["angles"]) {
      const int64_t row = row_of[angle[0]], i = angle[1];
      const double cosine = angle[2], sine = angle[3];
      for (int64_t h = 0; h < kHeads; ++h) {
        const double a = static_cast<double>(h + 1), b = 0.5;
        ASSERT_NEAR(at(row, h, i), a * cosine - b * sine, 5e-7) << golden["rope"].dump() << angle.dump();
        ASSERT_NEAR(at(row, h, i + half), b * cosine + a * sine, 5e-7) << golden["rope"].dump() << angle.dump();
        for (int64_t j = dim; j < head_dim; ++j) ASSERT_EQ(at(row, h, j), 7.0f);
      }
    }
  }
}

TEST(Rotary, WhatConfigJsonLeavesOutHasTransformersDefaults) {
  EXPECT_EQ(read_model_config(config_json(8)).rope_theta, 10000.0);
  EXPECT_EQ(read_model_config(config_json(8)).rope_scaling.kind, RopeScaling::Kind::kNone);
  Json json = config_json(8);
  json["rope_theta"] = 77.0;
  json["rope_scaling"] = nullptr;
  EXPECT_EQ(read_model_config(json).rope_theta, 77.0);
  json["rope_parameters"] = {{"rope_type", "default"}};
  EXPECT_EQ(read_model_config(json).rope_theta, 77.0);
  json["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 78.0}};
  EXPECT_EQ(read_model_config(json).rope_theta, 78.0);
}

TEST(Rotary, RefusesWhatItDoesNotDoAndWhatMakesNoSense) {
  const auto read = [](const Json& rope) {
    Json json = config_json(8);
    json["rope_scaling"] = rope;
    return read_model_config(json);
  };
  const Json llama3 = {{"rope_type", "llama3"},
                       {"factor", 8.0},
                       {"low_freq_factor", 1.0},
                       {"high_freq_factor", 4.0},
                       {"original_max_position_embeddings", 8192}};
  EXPECT_NO_THROW(read(llama3));
  for (const char* type : {"dynamic", "yarn", "longrope", "su"}) {
    EXPECT_THROW(read({{"rope_type", type}, {"factor", 2.0}}), NotSupported) << type;
    EXPECT_THROW(read({{"type", type}, {"factor", 2.0}}), NotSupported) << type;
  }
  EXPECT_THROW(read({{"rope_type", "linear"}, {"factor", 0.5}}), CorruptFile);
  for (const auto& [key, value] : std::map<std::string, double>{{"factor", 0.0},
                                                                {"low_freq_factor", 0.0},
                                                                {"low_freq_factor", 4.0},
                                                                {"high_freq_factor", 1.0},
                                                                {"original_max_position_embeddings", 0.0}}) {
    Json wrong = llama3;
    wrong[key] = value;
    EXPECT_THROW(read(wrong), CorruptFile) << key;
  }
  Json json = config_json(8);
  json["rope_theta"] = 0.0;
  EXPECT_THROW(read_model_config(json), CorruptFile);
  json["rope_theta"] = "10000";
  EXPECT_THROW(read_model_config(json), CorruptFile);
}

// Vaswani et al. 2017: 10000^(-2 i / d).
TEST(Rotary, SinusoidsFallFromOneByEqualSteps) {
  for (const int64_t d : {2, 6, 32}) {
    const std::vector<double> frequencies = sinusoid_frequencies(d);
    ASSERT_EQ(frequencies.size(), static_cast<size_t>(d / 2));
    for (int64_t i = 0; i < d / 2; ++i) {
      EXPECT_NEAR(std::log(frequencies[i]), -std::log(10000.0) * 2.0 * static_cast<double>(i) / static_cast<double>(d),
                  1e-12);
    }
  }
}

}  // namespace
}  // namespace espalier
