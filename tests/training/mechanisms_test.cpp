// The training halves of the attention mechanisms against their definitions in f64 and the originals' own values.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "attention/mechanism_train.h"
#include "attention/shared/plain.h"
#include "checkpoint/safetensors.h"
#include "core/error.h"
#include "support/attentions.h"
#include "support/plain_attention_train.h"

namespace espalier {
namespace {

using testing::plain_attention;

// f32 against f64, absolute for values of size 1.
constexpr double kValueTolerance = 2e-5, kGradientTolerance = 2e-4;

struct Inputs {
  at::Tensor q, k, v, hidden;
  std::vector<at::Tensor> parameters;

  std::vector<at::Tensor> all() const {
    std::vector<at::Tensor> tensors = {q, k, v, hidden};
    tensors.insert(tensors.end(), parameters.begin(), parameters.end());
    return tensors;
  }
  Inputs as(at::ScalarType type, bool with_gradients) const {
    const auto leaf = [&](const at::Tensor& x) {
      return x.detach().to(type).clone().set_requires_grad(with_gradients);
    };
    Inputs copy{leaf(q), leaf(k), leaf(v), leaf(hidden), {}};
    for (const at::Tensor& parameter : parameters) copy.parameters.push_back(leaf(parameter));
    return copy;
  }
};

AttentionShape shape_of(int heads, int heads_kv, int dim) {
  return {.heads = heads, .heads_kv = heads_kv, .dim_k = dim, .dim_v = dim, .hidden = 12};
}

Inputs random_inputs(const std::string& spec, const AttentionShape& shape, int64_t tokens, int64_t batch = 2) {
  at::manual_seed(7);
  const int64_t dim = shape.dim_k;
  Inputs inputs{at::randn({batch, shape.heads, tokens, dim}),
                at::randn({batch, shape.heads_kv, tokens, dim}),
                at::randn({batch, shape.heads_kv, tokens, dim}),
                at::randn({batch, tokens, shape.hidden}),
                {}};
  for (const ParameterInfo& info : make_mechanism(AttentionSpec::parse(spec), shape)->parameters()) {
    const double scale = info.init == Init::kIdentity ? 0.5 : info.trained ? 0.3 : 1.0;
    inputs.parameters.push_back(at::randn(info.shape) * scale);
  }
  return inputs;
}

at::Tensor parallel(const std::string& spec, const AttentionShape& shape, const Inputs& inputs) {
  return make_train_mechanism(AttentionSpec::parse(spec), shape)
      ->parallel({inputs.q, inputs.k, inputs.v, inputs.hidden}, inputs.parameters);
}

double worst(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

// The longest text of these tests.
constexpr int kLongest = 101;

std::vector<std::string> samples() {
  std::vector<std::string> specs;
  for (const char* text : testing::attention_samples()) {
    const auto mechanism = make_mechanism(AttentionSpec::parse(text), shape_of(6, 2, 16));
    const int64_t max_length = mechanism->capabilities().max_length;
    if (max_length == 0 || max_length >= kLongest) specs.emplace_back(text);
  }
  return specs;
}

class Mechanisms : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(All, Mechanisms, ::testing::ValuesIn(samples()));

// The plain loops that the step half is held to, too: [B, H, T, Dv].
at::Tensor definition(const std::string& spec, const AttentionShape& shape, const Inputs& inputs, bool span = false) {
  const auto values_of = [](const at::Tensor& x) {
    const at::Tensor flat = x.to(at::kFloat).contiguous();
    return std::vector<float>(flat.const_data_ptr<float>(), flat.const_data_ptr<float>() + flat.numel());
  };
  plain::Parameters parameters;
  for (const at::Tensor& parameter : inputs.parameters) parameters.push_back(values_of(parameter));
  at::Tensor all = at::empty({inputs.q.size(0), inputs.q.size(2), shape.heads * int64_t{shape.dim_v}}, at::kDouble);
  for (int64_t b = 0; b < all.size(0); ++b) {
    plain::Sequence rows;
    for (int64_t t = 0; t < all.size(1); ++t) {
      rows.q.push_back(values_of(inputs.q.select(0, b).select(1, t)));
      rows.k.push_back(values_of(inputs.k.select(0, b).select(1, t)));
      rows.v.push_back(values_of(inputs.v.select(0, b).select(1, t)));
      rows.hidden.push_back(values_of(inputs.hidden.select(0, b).select(0, t)));
    }
    for (int64_t t = 0; t < all.size(1); ++t) {
      const auto row = plain::attention_row(AttentionSpec::parse(spec), shape, parameters, rows, t, span);
      std::copy(row.begin(), row.end(), all.select(0, b).select(0, t).mutable_data_ptr<double>());
    }
  }
  return all.view({all.size(0), all.size(1), shape.heads, shape.dim_v}).transpose(1, 2);
}

TEST_P(Mechanisms, ParallelEqualsTheDefinition) {
  const AttentionShape shape = shape_of(6, 2, 16);
  for (const int64_t tokens : {1, 2, 7, 8, 9, 12, 16, 17, 24, 25, 33, 64, kLongest}) {
    const Inputs inputs = random_inputs(GetParam(), shape, tokens);
    const at::Tensor expected = definition(GetParam(), shape, inputs);
    const at::Tensor got = parallel(GetParam(), shape, inputs);
    ASSERT_EQ(got.sizes(), expected.sizes());
    const double scale = std::max(1.0, expected.abs().max().item<double>());
    EXPECT_LT(worst(got, expected) / scale, kValueTolerance) << GetParam() << " T=" << tokens;
  }
}

TEST_P(Mechanisms, GradientsEqualAutogradOfTheDefinition) {
  const AttentionShape shape = shape_of(4, 2, 8);
  for (const int64_t tokens : {1, 9, 40, 53}) {
    const Inputs random = random_inputs(GetParam(), shape, tokens);
    const at::Tensor weight = at::randn({2, 4, tokens, 8});
    const Inputs exact = random.as(at::kDouble, true), inputs = random.as(at::kFloat, true);
    const at::Tensor expected =
        plain_attention(GetParam(), {exact.q, exact.k, exact.v, exact.hidden}, exact.parameters);
    if (!expected.defined()) {
      ASSERT_FALSE(make_mechanism(AttentionSpec::parse(GetParam()), shape)->capabilities().surrogate_gradient);
      GTEST_SKIP() << "no definition in tensors: finite differences judge the gradient";
    }
    const at::Tensor got = parallel(GetParam(), shape, inputs);
    const double size = std::max(1.0, expected.abs().max().item<double>());
    EXPECT_LT(worst(got, expected) / size, kValueTolerance) << GetParam() << " T=" << tokens;
    expected.backward(weight.to(at::kDouble));
    got.backward(weight);
    const std::vector<at::Tensor> a = exact.all(), b = inputs.all();
    for (size_t i = 0; i < a.size(); ++i) {
      if (!a[i].grad().defined()) {
        EXPECT_TRUE(!b[i].grad().defined() || b[i].grad().abs().max().item<double>() == 0.0) << GetParam() << " " << i;
        continue;
      }
      const at::Tensor got = b[i].grad().defined() ? b[i].grad() : at::zeros_like(b[i]);
      const double scale = std::max(1.0, a[i].grad().abs().max().item<double>());
      EXPECT_LT(worst(got, a[i].grad()) / scale, kGradientTolerance) << GetParam() << " T=" << tokens << " input " << i;
    }
  }
}

// Along random directions, in f64: the gradient is that of the value, not of a relative.
TEST_P(Mechanisms, GradientsEqualFiniteDifferences) {
  const AttentionShape shape = shape_of(4, 2, 8);
  if (make_mechanism(AttentionSpec::parse(GetParam()), shape)->capabilities().surrogate_gradient) {
    GTEST_SKIP() << "a surrogate gradient: not the value's";
  }
  const Inputs random = random_inputs(GetParam(), shape, 37).as(at::kDouble, true);
  const at::Tensor weight = at::randn({2, 4, 37, 8}, at::kDouble);
  parallel(GetParam(), shape, random).backward(weight);
  const std::vector<at::Tensor> tensors = random.all();
  const auto value_at = [&](size_t index, const at::Tensor& direction, double step) {
    Inputs moved = random.as(at::kDouble, false);
    at::Tensor target = moved.all()[index];
    target.add_(direction, step);
    return (parallel(GetParam(), shape, moved) * weight).sum().item<double>();
  };
  for (size_t i = 0; i < tensors.size(); ++i) {
    const at::Tensor direction = at::randn_like(tensors[i].detach());
    const double step = 1e-6;
    const double difference = (value_at(i, direction, step) - value_at(i, direction, -step)) / (2 * step);
    const at::Tensor gradient = tensors[i].grad().defined() ? tensors[i].grad() : at::zeros_like(tensors[i]);
    const double slope = (gradient * direction).sum().item<double>();
    EXPECT_NEAR(slope, difference, 1e-5 * std::max(1.0, std::abs(difference))) << GetParam() << " input " << i;
  }
}

// Later rows are no part of an earlier row's value: bits stay, whatever the later rows become.
TEST_P(Mechanisms, NothingLeaksFromTheFuture) {
  const AttentionShape shape = shape_of(6, 2, 16);
  const Inputs inputs = random_inputs(GetParam(), shape, 70);
  const at::Tensor before = parallel(GetParam(), shape, inputs);
  for (const int64_t border : {1, 8, 23, 24, 36, 69}) {
    Inputs changed = inputs.as(at::kFloat, false);
    for (at::Tensor* x : {&changed.q, &changed.k, &changed.v}) x->narrow(2, border, 70 - border).mul_(-3.0).add_(1.0);
    changed.hidden.narrow(1, border, 70 - border).mul_(-3.0).add_(1.0);
    const at::Tensor after = parallel(GetParam(), shape, changed);
    EXPECT_TRUE(at::equal(before.narrow(2, 0, border), after.narrow(2, 0, border))) << GetParam() << " " << border;
    EXPECT_FALSE(at::equal(before, after));
  }
}

// The layers that transnormer begins with.
TEST(Transnormer, DiagonalLayersAreSoftmaxInsideGroups) {
  AttentionShape shape = shape_of(4, 2, 8);
  shape.layers = 2;
  for (const int64_t tokens : {1, 7, 8, 9, 33}) {
    const Inputs inputs = random_inputs("transnormer(group=8)", shape, tokens);
    const at::Tensor got = parallel("transnormer(group=8)", shape, inputs);
    for (int64_t begin = 0; begin < tokens; begin += 8) {
      const int64_t count = std::min<int64_t>(8, tokens - begin);
      const auto part = [&](const at::Tensor& x) { return x.narrow(2, begin, count).to(at::kDouble); };
      const at::Tensor expected = plain_attention("softmax", {part(inputs.q), part(inputs.k), part(inputs.v), {}}, {});
      EXPECT_LT(worst(part(got), expected), kValueTolerance) << tokens;
    }
  }
}

class Golden {
 public:
  explicit Golden(const std::string& name)
      : file_({std::string(ESPALIER_TEST_DATA) + "/attention/" + name + ".safetensors"}) {}

  at::Tensor operator[](const std::string& name) const {
    const TensorInfo* info = file_.find(name);
    at::Tensor tensor = at::empty(info->shape, at::kFloat);
    file_.read(name, tensor.mutable_data_ptr<float>());
    return tensor;
  }

 private:
  SafetensorsSource file_;
};

// The original scales the local part too: y = f local + a global + conv = f (local + a/f global + conv/f).
at::Tensor original_augmented(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& factor,
                              const at::Tensor& alpha, const at::Tensor& taps) {
  const auto mechanism =
      make_train_mechanism(AttentionSpec::parse("augmented(group=16,scale=none,taps=32)"), shape_of(4, 2, 16));
  return mechanism->parallel({q, k, v, {}}, {alpha / factor, taps / factor}) * factor;
}

TEST(Golden, AugmentedEqualsTheAuthorsCode) {
  const Golden file("llama_aug_gqa_T55");
  const at::Tensor taps = file["conv_weight_raw"].narrow(1, 0, 32).contiguous();
  const at::Tensor got =
      original_augmented(file["q"], file["k"], file["v"], file["local_factor"], file["global_factor"], taps);
  EXPECT_LT(worst(got, file["attn_out"]), 5e-5);
}

// Rows that all see each other.
TEST(Spans, EqualTheDefinition) {
  AttentionShape shape = shape_of(4, 2, 10);
  shape.span = true;
  for (const std::string& spec : samples()) {
    if (!make_mechanism(AttentionSpec::parse(spec), shape)->capabilities().span) continue;
    for (const int64_t tokens : {1, 7, 8, 9, 30}) {
      const Inputs inputs = random_inputs(spec, shape, tokens, 1);
      TrainRows rows{inputs.q, inputs.k, inputs.v, inputs.hidden};
      rows.span = true;
      const auto mechanism = make_train_mechanism(AttentionSpec::parse(spec), shape);
      const at::Tensor got = mechanism->parallel(rows, inputs.parameters);
      const at::Tensor expected = definition(spec, shape, inputs, true);
      const double scale = std::max(1.0, expected.abs().max().item<double>());
      EXPECT_LT(worst(got, expected) / scale, kValueTolerance) << spec << " T=" << tokens;
    }
  }
}

TEST(Golden, AugmentedGradientsEqualTheAuthorsCode) {
  const Golden file("llama_aug_gqa_T40_gradients");
  const auto leaf = [](const at::Tensor& x) { return x.clone().set_requires_grad(true); };
  const at::Tensor q = leaf(file["q"]), k = leaf(file["k"]), v = leaf(file["v"]);
  const at::Tensor factor = leaf(file["local_factor"]), alpha = leaf(file["global_factor"]);
  const at::Tensor taps = leaf(file["conv_weight_raw"].narrow(1, 0, 32).contiguous());
  const at::Tensor out = original_augmented(q, k, v, factor, alpha, taps);
  EXPECT_LT(worst(out, file["attn_out"]), 5e-5);
  out.backward(file["d_attn_out"]);
  const auto expect = [&](const at::Tensor& got, const at::Tensor& expected, const char* name) {
    EXPECT_LT(worst(got, expected), 5e-5 + 5e-5 * expected.abs().max().item<double>()) << name;
  };
  expect(q.grad(), file["d_q"], "q");
  expect(k.grad(), file["d_k"], "k");
  expect(v.grad(), file["d_v"], "v");
  expect(factor.grad(), file["d_local_factor"], "local factor");
  expect(alpha.grad(), file["d_global_factor"], "alpha");
  expect(taps.grad(), file["d_conv_weight_autograd"].narrow(1, 0, 32), "conv");
}

// gamma e^{s-m} + phi.phi = gamma (e^{s-m} + e^{-log gamma} phi.phi).
TEST(Golden, LolcatsEqualsTheAuthorsTerracedWindow) {
  const Golden file("lolcats_hybrid_T48");
  const auto mechanism =
      make_train_mechanism(AttentionSpec::parse("lolcats(group=16,sinks=0,taps=0)"), shape_of(2, 2, 16));
  const at::Tensor tau = -file["window_factor_raw"].sigmoid().log();
  const at::Tensor got =
      mechanism->parallel({file["q"], file["k"], file["v"], {}}, {file["Wq"], file["Wk"], tau, at::zeros({2, 16})});
  EXPECT_LT(worst(got, file["out_terraced"]), 1e-4);
}

// A zero row has no direction; the original divides by 0 there.
TEST(Flash, ZeroRowsGiveFiniteValuesAndGradients) {
  for (const char* spec : {"flash_local(group=4)", "flash_global(group=4)"}) {
    Inputs inputs = random_inputs(spec, shape_of(2, 1, 8), 12);
    inputs.q.select(2, 5).zero_();
    inputs.k.select(2, 2).zero_();
    inputs = inputs.as(at::kFloat, true);
    const at::Tensor out = parallel(spec, shape_of(2, 1, 8), inputs);
    out.sum().backward();
    EXPECT_EQ(out.select(2, 5).abs().max().item<double>(), 0.0);
    for (const at::Tensor& x : {inputs.q, inputs.k, inputs.v}) {
      EXPECT_TRUE(at::isfinite(x.grad()).all().item<bool>()) << spec;
    }
  }
}

TEST(Registry, RefusesWhatTheStepHalfRefuses) {
  for (const char* spec : {"nonsense", "lolcats(grup=8)", "conv(taps=-1)", "softmax(group=8)", "window(taps=x)"}) {
    EXPECT_THROW(make_train_mechanism(AttentionSpec::parse(spec), shape_of(2, 1, 8)), Error) << spec;
  }
}

}  // namespace
}  // namespace espalier
