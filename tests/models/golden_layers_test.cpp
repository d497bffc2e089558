// Whole attention layers, from their input to the output projection, against what the originals' own code returned.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "checkpoint/safetensors.h"
#include "models/state_access.h"
#include "models/step_context.h"
#include "models/step_loader.h"

namespace espalier {
namespace {

using Values = std::vector<float>;

class Golden {
 public:
  explicit Golden(const std::string& name)
      : file_({std::string(ESPALIER_TEST_DATA) + "/attention/" + name + ".safetensors"}) {}
  Values operator[](const std::string& name) const {
    Values values(static_cast<size_t>(file_.find(name)->elements()));
    file_.read(name, values.data());
    return values;
  }
  int64_t extent(const std::string& name, size_t axis) const { return file_.find(name)->shape[axis]; }
  // The first 32 of 63 taps of every head; the original zeroes the others.
  Values taps() const {
    const Values raw = (*this)["conv_weight_raw"];
    Values taps;
    for (size_t h = 0; h < raw.size() / 63; ++h) {
      taps.insert(taps.end(), raw.begin() + static_cast<std::ptrdiff_t>(h * 63),
                  raw.begin() + static_cast<std::ptrdiff_t>(h * 63 + 32));
    }
    return taps;
  }

 private:
  SafetensorsSource file_;
};

struct Layer {
  StepMatrix q, k, v, o;
};

// out = (local_factor local + global_factor global + conv) Wo^T of the original is local_factor times ours with alpha =
// global_factor / local_factor and taps / local_factor. Rows that are already normed -> q, k, v -> rotary -> attention
// -> output projection, as the families write it.
Values run(const Golden& golden, const ModelConfig& config, const Layer& layer, float global_factor,
           float local_factor = 1.0f) {
  const int64_t tokens = golden.extent("hidden_states", 1), d = config.hidden_size;
  std::vector<std::unique_ptr<Mechanism>> mechanisms;
  mechanisms.push_back(make_mechanism(AttentionSpec::parse(config.attention[0]), attention_shape(config, 0)));
  Values taps = golden.taps();
  for (float& tap : taps) tap /= local_factor;
  mechanisms[0]->load({{global_factor / local_factor}, taps});
  SequenceState state;
  StateAccess::layers(state).emplace_back(mechanisms[0]->layout());
  const std::vector<int32_t> ids(static_cast<size_t>(tokens));
  const Segment segment{.state = &state, .tokens = ids};
  StepRows rows{.segments = {&segment, 1}, .first_row = {0}};
  rows.chain = {1};
  rows.span = {0};
  rows.counts = {tokens};
  for (int32_t t = 0; t < tokens; ++t) {
    rows.parents.push_back(t - 1);
    rows.depths.push_back(t);
    rows.positions.push_back(t);
  }
  std::vector<Pending> pending(1);
  StateAccess::start(pending[0], 0, false, rows.parents, 1, 0);
  Workspace workspace(2);
  const FloatEnvironment environment;
  StepContext context(best_kernels(), workspace, mechanisms, config, rows, pending);
  Values hidden = golden["hidden_states"];
  const Rows x{hidden.data(), tokens, d};
  auto [q, k, v] = context.project(x, std::array{&layer.q, &layer.k, &layer.v});
  if (config.rotary_dim > 0) {
    q = context.rotate(q, config.num_attention_heads, config.head_dim);
    k = context.rotate(k, config.num_key_value_heads, config.head_dim);
  }
  const Rows mixed = context.attend(0, x, q, k, v);
  const Rows out = context.project(mixed, std::array{&layer.o})[0];
  Values result(out.data, out.data + out.rows * out.columns);
  for (float& y : result) y *= local_factor;
  return result;
}

// The files' own tolerance: 5e-5, and 5e-5 of the row's greatest value.
void expect_rows(const Values& got, const Values& expected, int64_t d) {
  ASSERT_EQ(got.size(), expected.size());
  for (size_t row = 0; row < got.size() / static_cast<size_t>(d); ++row) {
    const size_t begin = row * static_cast<size_t>(d), end = begin + static_cast<size_t>(d);
    double most = 0;
    for (size_t i = begin; i < end; ++i) most = std::max(most, std::abs(double{expected[i]}));
    for (size_t i = begin; i < end; ++i) ASSERT_NEAR(got[i], expected[i], 5e-5 * (1 + most)) << "row " << row;
  }
}

ModelConfig config_of(const Golden& golden, int64_t heads_kv) {
  ModelConfig config;
  config.hidden_size = golden.extent("hidden_states", 2);
  config.num_hidden_layers = 1;
  config.num_attention_heads = golden.extent("q", 1);
  config.num_key_value_heads = heads_kv;
  config.head_dim = golden.extent("q", 3);
  config.rotary_dim = config.head_dim;
  config.set_attention("augmented(group=16,taps=32,scale=none)");
  return config;
}

TEST(GoldenLayers, Llama) {
  for (const char* name : {"llama_layer_aug_T48", "llama_layer_aug_gqa_T40"}) {
    const Golden golden(name);
    const ModelConfig config = config_of(golden, golden.extent("k", 1));
    WeightMemory memory;
    const auto matrix = [&](const std::string& part) {
      const Values weight = golden[part + ".weight"];
      return StepMatrix{PackedMatrix(weight.data(), golden.extent(part + ".weight", 0),
                                     golden.extent(part + ".weight", 1), WeightType::kF32, memory),
                        {}};
    };
    const Layer layer{matrix("q_proj"), matrix("k_proj"), matrix("v_proj"), matrix("o_proj")};
    expect_rows(run(golden, config, layer, golden["global_factor"][0], golden["local_factor"][0]), golden["out"],
                config.hidden_size);
  }
}

TEST(GoldenLayers, Gpt2) {
  const Golden golden("gpt2_layer_aug_T32");
  ModelConfig config = config_of(golden, golden.extent("q", 1));
  config.rotary_dim = 0;
  const int64_t d = config.hidden_size;
  WeightMemory memory;
  // Conv1D: [in, out], with q, k and v side by side.
  const auto matrix = [&](const std::string& part, int64_t first) {
    const Values weight = golden[part + ".weight"], bias = golden[part + ".bias"];
    const int64_t outputs = golden.extent(part + ".weight", 1);
    Values transposed;
    for (int64_t o = first; o < first + d; ++o) {
      for (int64_t i = 0; i < d; ++i) transposed.push_back(weight[static_cast<size_t>(i * outputs + o)]);
    }
    return StepMatrix{PackedMatrix(transposed.data(), d, d, WeightType::kF32, memory),
                      Values(bias.begin() + first, bias.begin() + first + d)};
  };
  const Layer layer{matrix("c_attn", 0), matrix("c_attn", d), matrix("c_attn", 2 * d), matrix("c_proj", 0)};
  expect_rows(run(golden, config, layer, golden["alpha"][0]), golden["out"], d);
}

}  // namespace
}  // namespace espalier
