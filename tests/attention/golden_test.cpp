// The step half, and the plain forms, against what the originals' own code returned (tests/data/attention).
#include <gtest/gtest.h>

#include <cmath>

#include "attention/rows.h"
#include "checkpoint/safetensors.h"

namespace espalier {
namespace {

class Golden {
 public:
  explicit Golden(const std::string& name)
      : file_({std::string(ESPALIER_TEST_DATA) + "/attention/" + name + ".safetensors"}) {}

  std::vector<float> operator[](const std::string& name) const {
    std::vector<float> values(static_cast<size_t>(file_.find(name)->elements()));
    file_.read(name, values.data());
    return values;
  }
  bool has(const std::string& name) const { return file_.find(name) != nullptr; }
  int64_t extent(const std::string& name, size_t axis) const { return file_.find(name)->shape[axis]; }

  // [B, H, T, D] -> of batch row b: [T][H * D]
  std::vector<std::vector<float>> rows(const std::string& name, int64_t b = 0) const {
    const std::vector<float> all = (*this)[name];
    const int64_t heads = extent(name, 1), tokens = extent(name, 2), dim = extent(name, 3);
    std::vector<std::vector<float>> rows(static_cast<size_t>(tokens));
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t h = 0; h < heads; ++h) {
        const auto begin = all.begin() + ((b * heads + h) * tokens + t) * dim;
        rows[t].insert(rows[t].end(), begin, begin + dim);
      }
    }
    return rows;
  }
  // The first 32 of 63 taps of every head; the original zeroes the others.
  std::vector<float> taps() const {
    const std::vector<float> raw = (*this)["conv_weight_raw"];
    std::vector<float> taps;
    for (size_t h = 0; h < raw.size() / 63; ++h)
      taps.insert(taps.end(), raw.begin() + h * 63, raw.begin() + h * 63 + 32);
    return taps;
  }

 private:
  SafetensorsSource file_;
};

AttentionShape shape_of(const plain::Sequence& rows, int dim) {
  const int heads_kv = static_cast<int>(rows.k[0].size()) / dim;
  return {.heads = static_cast<int>(rows.q[0].size()) / dim,
          .heads_kv = heads_kv,
          .dim_k = dim,
          .dim_v = static_cast<int>(rows.v[0].size()) / heads_kv};
}

void expect_rows(const std::vector<std::vector<float>>& got, const std::vector<std::vector<float>>& expected,
                 double tolerance) {
  ASSERT_EQ(got.size(), expected.size());
  for (size_t t = 0; t < got.size(); ++t) {
    EXPECT_LT(testing::worst(got[t], {expected[t].begin(), expected[t].end()}), tolerance) << "row " << t;
  }
}

std::vector<int32_t> chain(size_t rows) {
  std::vector<int32_t> parent;
  for (size_t r = 0; r < rows; ++r) parent.push_back(static_cast<int32_t>(r) - 1);
  return parent;
}

// The whole text in one step, then token by token; then the plain form.
void expect_text(const std::string& spec_text, const plain::Sequence& rows, const plain::Parameters& parameters,
                 const std::vector<std::vector<float>>& expected, double tolerance, int layers = 1) {
  AttentionShape shape = shape_of(rows, 16);
  shape.layers = layers;
  const AttentionSpec spec = AttentionSpec::parse(spec_text);
  const auto mechanism = make_mechanism(spec, shape);
  mechanism->load(parameters);
  const Kernels& kernels = best_kernels();
  const LayerState empty(mechanism->layout());
  expect_rows(testing::step(kernels, *mechanism, shape, empty, rows, chain(rows.q.size())), expected, tolerance);
  for (size_t t = 0; t < rows.q.size(); ++t) {
    const LayerState state = testing::committed(kernels, *mechanism, rows, static_cast<int64_t>(t));
    const auto got = testing::step(kernels, *mechanism, shape, state, {{rows.q[t]}, {rows.k[t]}, {rows.v[t]}}, {-1});
    expect_rows(got, {expected[t]}, tolerance);
    const std::vector<double> exact = plain::attention_row(spec, shape, parameters, rows, static_cast<int64_t>(t));
    EXPECT_LT(testing::worst(expected[t], exact), tolerance) << "plain form, row " << t;
  }
}

TEST(Golden, LocalPartOfTheLlamaPath) {
  const Golden file("llama_local_T48");
  for (int64_t b = 0; b < file.extent("q", 0); ++b) {
    expect_text("flash_local(group=16)", {file.rows("q", b), file.rows("k", b), file.rows("v", b)}, {},
                file.rows("attn_out", b), 2e-6);
  }
}

// 55 tokens: no multiple of the group.
TEST(Golden, LocalPartOfTheGpt2Path) {
  const Golden file("gpt2_local_T55");
  expect_text("flash_local(group=16)", {file.rows("q"), file.rows("k"), file.rows("v")}, {}, file.rows("attn_out"),
              2e-6);
}

TEST(Golden, PartsOfTheAugmentedAttention) {
  const Golden file("llama_aug_gqa_T55");
  const plain::Sequence rows{file.rows("q"), file.rows("k"), file.rows("v")};
  expect_text("flash_local(group=16)", rows, {}, file.rows("local_out"), 2e-6);
  expect_text("flash_global(group=16,scale=none)", rows, {}, file.rows("global_out"), 1e-5);
  expect_text("conv(taps=32)", rows, {file.taps()}, file.rows("conv_out"), 2e-6);
}

// Decoding with a cache, where the original goes wrong at two positions and the exact values stand beside.
TEST(Golden, AugmentedDecoding) {
  const Golden file("llama_decode_gqa_T52");
  expect_text("augmented(group=16,scale=none,taps=32)", {file.rows("q"), file.rows("k"), file.rows("v")},
              {file["global_factor"], file.taps()}, file.rows("attn_out_exact"), 1e-5);
}

// Both parts without factors: `flash`.
TEST(Golden, LocalAndGlobalParts) {
  for (const char* name : {"llama_local_global_T48", "gpt2_both_T48"}) {
    const Golden file(name);
    expect_text("flash(group=16,scale=none)", {file.rows("q"), file.rows("k"), file.rows("v")}, {},
                file.rows("attn_out"), 1e-5);
  }
}

// The T5 path, decoder and encoder: ours for local, global and convolution, of values brought to length 1 for the first
// two, and what the original's layer makes of them, z / (1e-4 + |z|) over all heads before the convolution is added.
TEST(Golden, PartsOfTheT5Path) {
  for (const char* name : {"t5_dec_local_T32", "t5_dec_global_T32", "t5_dec_both_norel_T32", "t5_dec_alphaboth_T32",
                           "t5_dec_aug_T48", "t5_dec_aug_k63_pad_T32", "t5_enc_aug_pad_T32"}) {
    const Golden file(name);
    const bool span = std::string(name).starts_with("t5_enc");
    for (int64_t b = 0; b < file.extent("q", 0); ++b) {
      plain::Sequence rows{file.rows("q", b), file.rows("k", b), file.rows("v", b)};
      AttentionShape shape = shape_of(rows, 16);
      shape.span = span;
      const size_t tokens = rows.q.size(), channels = rows.v[0].size();
      const std::vector<float> real = file["key_valid"];
      const auto is_real = [&](size_t t) { return real[static_cast<size_t>(b) * tokens + t] != 0; };
      constexpr int64_t kReach = 15;
      std::vector<float> biases(static_cast<size_t>(shape.heads * (2 * kReach + 1)));
      if (file.has("bias_block")) {
        const std::vector<float> block = file["bias_block"];  // [H][row][column]
        for (int64_t i = 0; i < shape.heads * 16 * 16; ++i) {
          const int64_t head = i / 256, distance = i % 16 - i / 16 % 16;
          biases[static_cast<size_t>(head * (2 * kReach + 1) + kReach + distance)] = block[static_cast<size_t>(i)];
        }
      }
      // Padding, which we do not have, is seen by the convolution of an encoder's last rows and by nothing else.
      plain::Sequence units;
      for (size_t t = 0; t < tokens && is_real(t); ++t) {
        units.q.push_back(rows.q[t]);
        units.k.push_back(rows.k[t]);
        units.v.push_back(rows.v[t]);
      }
      for (std::vector<float>& row : units.v) {
        for (size_t first = 0; first < channels; first += 16) {
          double squares = 0;
          for (size_t c = first; c < first + 16; ++c) squares += double{row[c]} * row[c];
          for (size_t c = first; c < first + 16; ++c) row[c] = static_cast<float>(row[c] / std::sqrt(squares));
        }
      }
      std::vector<std::vector<double>> sum(tokens, std::vector<double>(channels, 0.0));
      const auto add = [&](const std::string& spec, const plain::Sequence& of, const plain::Parameters& parameters,
                           const char* part, double factor) {
        if (!file.has(part)) return;
        const auto mechanism = make_mechanism(AttentionSpec::parse(spec), shape);
        mechanism->load(parameters);
        const testing::Span how{span, true, {spec.starts_with("flash_local") ? biases.data() : nullptr, kReach}};
        const LayerState empty(mechanism->layout());
        const auto got = testing::step(best_kernels(), *mechanism, shape, empty, of, chain(of.q.size()), {}, 1, how);
        const auto expected = file.rows(part, b);
        for (size_t t = 0; t < tokens; ++t) {
          if (!is_real(t)) continue;
          EXPECT_LT(testing::worst(got[t], {expected[t].begin(), expected[t].end()}), 5e-6) << name << " " << part;
        }
        for (size_t t = 0; t < got.size(); ++t) {
          for (size_t c = 0; c < channels; ++c) sum[t][c] += factor * got[t][c];
        }
      };
      add("flash_local(group=16)", units, {}, "local_out", 1.0);
      add("flash_global(group=16,scale=none)", units, {}, "global_out", file.has("alpha") ? file["alpha"][0] : 1.0);
      for (std::vector<double>& row : sum) {
        double squares = 0;
        for (const double value : row) squares += value * value;
        for (double& value : row) value /= 1e-4 + std::sqrt(squares);
      }
      if (file.has("conv_out")) {
        const int64_t kernel = file.extent("conv_weight_raw", 1), taps = kernel / 2 + 1, width = span ? kernel : taps;
        const std::vector<float> raw = file["conv_weight_raw"];
        std::vector<float> weight;
        for (int64_t h = 0; h < shape.heads; ++h) {
          weight.insert(weight.end(), raw.begin() + h * kernel, raw.begin() + h * kernel + width);
        }
        add("conv(taps=" + std::to_string(taps) + ")", rows, {weight}, "conv_out", 1.0);
      }
      const std::vector<float> expected = file["pre_o"];  // [B, T, H * D]
      for (size_t i = 0; i < tokens * channels; ++i) {
        if (!is_real(i / channels)) continue;
        ASSERT_NEAR(sum[i / channels][i % channels], expected[static_cast<size_t>(b) * tokens * channels + i], 5e-6)
            << name;
      }
    }
  }
}

TEST(Golden, LinearAttention) {
  const Golden file("katharopoulos_linear_T40");
  for (int64_t b = 0; b < file.extent("q", 0); ++b) {
    expect_text("linear", {file.rows("q", b), file.rows("k", b), file.rows("v", b)}, {},
                file.rows("out_causal_step", b), 5e-6);
  }
}

// The original's matrix is [D][directions].
TEST(Golden, Favor) {
  const Golden file("favor_idiap_T40");
  const std::vector<float> omega = file["omega"];
  std::vector<float> weight(omega.size());
  for (size_t d = 0; d < 16; ++d) {
    for (size_t m = 0; m < 16; ++m) weight[m * 16 + d] = omega[d * 16 + m];
  }
  for (int64_t b = 0; b < file.extent("q", 0); ++b) {
    expect_text("performer(features=32,form=hyperbolic)", {file.rows("q", b), file.rows("k", b), file.rows("v", b)},
                {weight}, file.rows("out_causal_step", b), 1e-5);
  }
}

TEST(Golden, Rfa) {
  const Golden file("rfa_T40");
  for (int64_t b = 0; b < file.extent("q", 0); ++b) {
    expect_text("rfa(features=24)", {file.rows("q", b), file.rows("k", b), file.rows("v", b)},
                {file["random_matrices"], file["sigma"]}, file.rows("out_step", b), 5e-6);
  }
}

// The original's N is the length of the text.
TEST(Golden, Cosformer) {
  const Golden file("cosformer_T40");
  for (int64_t b = 0; b < file.extent("q", 0); ++b) {
    expect_text("cosformer(length=40)", {file.rows("q", b), file.rows("k", b), file.rows("v", b)}, {},
                file.rows("out_causal", b), 5e-6);
  }
}

TEST(Golden, Hedgehog) {
  const Golden file("hedgehog_lolcats_T48");
  expect_text("hedgehog(features=8)", {file.rows("q"), file.rows("k"), file.rows("v")}, {file["Wq"], file["Wk"]},
              file.rows("out"), 5e-6);
}

TEST(Golden, TransnormersNormAttention) {
  const Golden file("transnormer_norm_attention_T40");
  std::vector<std::vector<float>> expected = file.rows("pre_norm_elu_plus1_causal");
  for (std::vector<float>& row : expected) {
    double squares = 0;
    for (const float x : row) squares += double{x} * x;
    for (float& x : row) x = static_cast<float>(x / (std::sqrt(squares / static_cast<double>(row.size())) + 1e-8));
  }
  expect_text("transnormer(group=16)", {file.rows("q"), file.rows("k"), file.rows("v")}, {}, expected, 5e-6);
}

TEST(Golden, TransnormersDiagAttention) {
  const Golden file("transnormer_diag_attention_T40");
  expect_text("transnormer(group=16)", {file.rows("q"), file.rows("k"), file.rows("v")}, {},
              file.rows("out_softmax_causal"), 5e-6, 2);
}

TEST(Golden, Retention) {
  const Golden file("retnet_fla_T40");
  expect_text("retention(norm=none)", {file.rows("q"), file.rows("k"), file.rows("v")}, {}, file.rows("out_recurrent"),
              1e-5);
}

// Layer 1 of 4.
TEST(Golden, Lightning) {
  const Golden file("lightning2_T40");
  const plain::Sequence rows{file.rows("q"), file.rows("k"), file.rows("v")};
  AttentionShape shape = shape_of(rows, 16);
  shape.layer = 1;
  shape.layers = 4;
  const auto mechanism = make_mechanism(AttentionSpec::parse("retention(decay=lightning,norm=none)"), shape);
  mechanism->load({});
  const LayerState empty(mechanism->layout());
  expect_rows(testing::step(best_kernels(), *mechanism, shape, empty, rows, chain(40)), file.rows("out_fla_recurrent"),
              5e-6);
}

// A state of 32 rows whose fold is `fold` and whose live rows are zero.
LayerState state_with_fold(const StateLayout& layout, const std::vector<float>& fold) {
  const int64_t length = 2 * layout.block;
  std::string bytes(reinterpret_cast<const char*>(&length), sizeof(length));
  bytes.append(reinterpret_cast<const char*>(fold.data()), fold.size() * sizeof(float));
  const int64_t row = layout.dim_k + layout.dim_v + layout.dim_extra;
  bytes.append(static_cast<size_t>(layout.heads_kv * layout.block * row) * sizeof(float), '\0');
  std::string_view in = bytes;
  return LayerState::deserialize(layout, in, "test");
}

// The originals take gates as they are and begin with a state: gates become the layer's input, read by a unit matrix.
void expect_gated(const std::string& spec, const Golden& file, plain::Sequence rows,
                  const std::vector<std::vector<float>>& more, const char* out, double tolerance) {
  AttentionShape shape = shape_of(rows, 16);
  shape.hidden = static_cast<int>(rows.hidden[0].size());
  const auto mechanism = make_mechanism(AttentionSpec::parse(spec), shape);
  std::vector<float> unit(static_cast<size_t>(shape.hidden * shape.hidden), 0.0f);
  for (int i = 0; i < shape.hidden; ++i) unit[static_cast<size_t>(i * shape.hidden + i)] = 1.0f;
  std::vector<std::vector<float>> parameters = {unit, std::vector<float>(static_cast<size_t>(shape.hidden), 0.0f)};
  parameters.insert(parameters.end(), more.begin(), more.end());
  mechanism->load(parameters);
  const LayerState state = state_with_fold(mechanism->layout(), file["initial_state"]);
  expect_rows(testing::step(best_kernels(), *mechanism, shape, state, rows, chain(rows.q.size())), file.rows(out),
              tolerance);
}

TEST(Golden, GatedLinearAttention) {
  const Golden file("gla_fla_T40");
  plain::Sequence rows{file.rows("q"), file.rows("k"), file.rows("v"), file.rows("log_gate")};
  for (std::vector<float>& row : rows.hidden) {
    for (float& g : row) g = static_cast<float>(-std::log(std::expm1(-16.0 * g)));  // log sigmoid(z) / 16 = g
  }
  bool finite = true;
  for (const std::vector<float>& row : rows.hidden) {
    for (const float z : row) finite = finite && std::isfinite(z) && std::abs(z) < 80;
  }
  ASSERT_TRUE(finite);
  expect_gated("gla(norm=none)", file, rows, {}, "out", 2e-5);
}

TEST(Golden, GatedDeltaRule) {
  const Golden file("gated_deltanet_fla_T40");
  plain::Sequence rows{file.rows("q"), file.rows("k"), file.rows("v"), {}};
  const std::vector<float> beta = file["beta"], log_decay = file["log_decay"];  // [1, H, T]
  for (size_t t = 0; t < 40; ++t) {
    std::vector<float> row;
    for (size_t h = 0; h < 2; ++h) {
      row.push_back(static_cast<float>(std::log(beta[h * 40 + t] / (1.0 - beta[h * 40 + t]))));
      row.push_back(static_cast<float>(std::log(std::expm1(-double{log_decay[h * 40 + t]}))));  // -softplus(z) = g
    }
    rows.hidden.push_back(row);
  }
  expect_gated("gated_delta(norm=none)", file, rows, {{0.0f, 0.0f}}, "out_recurrent", 2e-5);
}

// softmax(q (E k)^T) (E v) of the whole text: that of a row which sees one closed group and, beside it, rows that
// weigh nothing. The row stands two groups later behind keys that its query shuns.
TEST(Golden, LinformersSummaries) {
  const Golden file("linformer_yosorepo_T32");
  const std::vector<float> mask = file["mask"], e = file["E"];  // [B, T], [H, r, T]
  const plain::Sequence text{file.rows("q"), file.rows("k"), file.rows("v")};
  const auto expected = file.rows("out");
  const AttentionShape shape = shape_of(text, 16);
  const auto mechanism = make_mechanism(AttentionSpec::parse("linformer(group=32,rank=8)"), shape);
  std::vector<float> masked = e;
  for (size_t i = 0; i < masked.size(); ++i) masked[i] *= mask[i % 32];
  mechanism->load({masked, masked});
  for (int64_t t = 0; t < 32; ++t) {
    plain::Sequence rows = text;
    for (int64_t p = 0; p < 33; ++p) {  // a whole group, and the row itself
      rows.q.push_back(text.q[t]);
      rows.k.push_back(text.q[t]);
      for (float& x : rows.k.back()) x *= -1000.0f;
      rows.v.push_back(text.v[t]);
    }
    const LayerState empty(mechanism->layout());
    const auto got = testing::step(best_kernels(), *mechanism, shape, empty, rows, chain(65));
    EXPECT_LT(testing::worst(got.back(), {expected[t].begin(), expected[t].end()}), 1e-5) << t;
  }
}

// The kernel inside a group, before the length is divided out.
TEST(Golden, YososExpectation) {
  for (const char* name : {"llama_yoso_T48", "llama_yoso_h4_T41"}) {
    const Golden file(name);
    auto expected = file.rows("local_out");
    for (std::vector<float>& row : expected) {
      for (size_t head = 0; head < row.size() / 16; ++head) {
        double squares = 0;
        for (size_t c = 0; c < 16; ++c) squares += double{row[head * 16 + c]} * row[head * 16 + c];
        for (size_t c = 0; c < 16; ++c) row[head * 16 + c] /= static_cast<float>(std::sqrt(squares));
      }
    }
    plain::Sequence rows{file.rows("q"), file.rows("k"), file.rows("v")};
    for (auto* part : {&rows.q, &rows.k, &rows.v, &expected}) part->resize(16);  // the first group
    const AttentionShape shape = shape_of(rows, 16);
    const int bits = std::string(name) == "llama_yoso_T48" ? 8 : 4;
    const std::string spec = "yoso(group=16,hashes=1,bits=" + std::to_string(bits) + ")";
    expect_text(spec, rows, {std::vector<float>(static_cast<size_t>(shape.heads_kv * bits * 16), 1.0f)}, expected,
                1e-5);
  }
}

// Bidirectional, so the plain form alone.
TEST(Golden, ReluAttention) {
  const Golden file("efficientvit_litemla_6x6");
  const plain::Sequence rows{file.rows("core_q"), file.rows("core_k"), file.rows("core_v")};
  const auto expected = file.rows("core_out_linear");
  const AttentionShape shape = shape_of(rows, 8);
  for (int64_t t = 0; t < 36; ++t) {
    for (int head = 0; head < shape.heads; ++head) {
      std::vector<double> y(8, 0.0);
      const AttentionOptions options = checked_options(AttentionSpec::parse("relu"));
      plain::additive(options, {}, {&rows, shape, head}, t, 36, y.data());
      const auto own = expected[t].begin() + head * 8;
      EXPECT_LT(testing::worst({own, own + 8}, y), 5e-6);
    }
  }
}

// gamma e^{s-m} + phi.phi = gamma (e^{s-m} + e^{-log gamma} phi.phi). The original's features are [16, 8], the step
// half's square: the plain form is held to all rows, the step half to those that have nothing but a window.
TEST(Golden, LolcatsTerracedWindow) {
  const Golden file("lolcats_hybrid_T48");
  std::vector<float> tau;
  for (const float raw : file["window_factor_raw"]) tau.push_back(-std::log(1.0f / (1.0f + std::exp(-raw))));
  plain::Sequence rows{file.rows("q"), file.rows("k"), file.rows("v")};
  std::vector<std::vector<float>> expected = file.rows("out_terraced");
  const plain::Parameters parameters = {file["Wq"], file["Wk"], tau, std::vector<float>(32, 0.0f)};
  for (int64_t t = 0; t < 48; ++t) {
    const auto got = plain::attention_row(AttentionSpec::parse("lolcats(group=16,sinks=0,taps=0)"), shape_of(rows, 16),
                                          parameters, rows, t);
    EXPECT_LT(testing::worst(expected[static_cast<size_t>(t)], got), 2e-5) << t;
  }
  for (auto* part : {&rows.q, &rows.k, &rows.v, &expected}) part->resize(32);
  expect_text("window(group=16,sinks=0)", rows, {}, expected, 5e-6);
}

// Trees of the authors' speculation: inside a group, from a border on, and across one, where the original sums the
// wrong rows and `tree_out_exact` says what the sequence itself would give.
class GoldenTrees : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(All, GoldenTrees,
                         ::testing::Values("medusa_tree15_inside_P35", "medusa_tree64_border_P48",
                                           "medusa_tree15_cross_P46_ORIGINAL_WRONG",
                                           "medusa_tree64_cross_P45_ORIGINAL_WRONG"));

TEST_P(GoldenTrees, EveryNode) {
  const Golden file(GetParam());
  const plain::Sequence past{file.rows("prefix_q"), file.rows("prefix_k"), file.rows("prefix_v")};
  const plain::Sequence tree{file.rows("tree_q"), file.rows("tree_k"), file.rows("tree_v")};
  const plain::Parameters parameters = {file["global_factor"], file.taps()};
  const std::string spec = "augmented(group=16,scale=none,taps=32)";
  expect_text(spec, past, parameters, file.rows("prefix_out"), 1e-5);
  std::vector<int32_t> parent;
  for (const float p : file["tree_parent"]) parent.push_back(static_cast<int32_t>(p));
  const AttentionShape shape = shape_of(past, 16);
  const auto mechanism = make_mechanism(AttentionSpec::parse(spec), shape);
  mechanism->load(parameters);
  for (const Isa isa : supported_isas()) {
    const LayerState state =
        testing::committed(kernels_for(isa), *mechanism, past, static_cast<int64_t>(past.q.size()));
    const auto got = testing::step(kernels_for(isa), *mechanism, shape, state, tree, parent);
    expect_rows(got, file.rows("tree_out_exact"), 1e-5);
    if (!file.has("wrong_nodes")) continue;
    const auto wrong = file.rows("tree_out_original_WRONG"), exact = file.rows("tree_out_exact");
    for (const float node : file["wrong_nodes"]) {  // the test can tell the two apart
      const auto& row = exact[static_cast<size_t>(node)];
      EXPECT_GT(testing::worst(wrong[static_cast<size_t>(node)], {row.begin(), row.end()}), 1e-3);
    }
  }
}

}  // namespace
}  // namespace espalier
