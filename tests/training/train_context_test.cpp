// The LLaMA forward on tensors against the step half: the same template over another context.
#include "training/train_context.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "models/step_loader.h"
#include "support/tiny_model.h"
#include "training/student.h"
#include "training/train_operators.h"

namespace espalier {
namespace {

using testing::TinyModel;

// Logits of both worlds for every position; the step half is measured against plain f64 loops in tests/models.
double worst_difference(const TinyModel& shape, int64_t tokens_count) {
  const ModelFiles files = testing::make_tiny_model(shape);
  const std::vector<int32_t> tokens = testing::random_tokens(tokens_count, shape.vocab_size, 5);
  const Student model(files, {.attention = shape.attention[0], .trained = Trained::kAttention});
  // The tiny model's mechanisms have random parameters; the student starts at the initial ones.
  std::vector<TrainAttention> attention = model.student_attention();
  for (size_t l = 0; l < attention.size(); ++l) {
    const auto mechanism = make_mechanism(AttentionSpec::parse(shape.attention[0]),
                                          attention_shape(files.config, static_cast<int64_t>(l)));
    attention[l].parameters.clear();
    for (const ParameterInfo& info : mechanism->parameters()) {
      at::Tensor values = at::empty(info.shape, at::kFloat);
      files.tensors->read("model.layers." + std::to_string(l) + ".self_attn." + info.name,
                          values.mutable_data_ptr<float>());
      attention[l].parameters.push_back(values);
    }
  }
  const at::NoGradGuard no_grad;
  at::Tensor ids = at::empty({1, tokens_count}, at::kLong);
  for (int64_t t = 0; t < tokens_count; ++t) ids[0][t] = tokens[static_cast<size_t>(t)];
  TrainContext context(files.config, attention, 1, tokens_count);
  if (files.config.encoder_layers > 0) {  // the source that testing::start() reads
    const std::vector<int32_t> source = testing::random_tokens(37, shape.vocab_size, 11);
    at::Tensor source_ids = at::empty({1, 37}, at::kLong);
    for (int64_t t = 0; t < 37; ++t) source_ids[0][t] = source[static_cast<size_t>(t)];
    context.set_source(model.student().read_source(source_ids));
  }
  const at::Tensor got = model.student().logits(context, ids);  // [T, V]

  const auto step = load_model(files, {.weights = WeightType::kF32});
  Workspace workspace(1);
  SequenceState state = testing::start(*step);
  double worst = 0.0;
  step->prefill(
      state, tokens, workspace,
      [&](int64_t index, const float* logits) {
        const float* row = got.const_data_ptr<float>() + index * shape.vocab_size;
        for (int64_t i = 0; i < shape.vocab_size; ++i) worst = std::max(worst, std::abs(double{row[i]} - logits[i]));
      },
      nullptr);
  return worst;
}

TEST(TrainContext, EqualsTheStepHalf) {
  for (const char* spec : {"softmax", "window(group=8)", "lolcats(group=8,taps=5)", "lolcats(group=12,sinks=2)",
                           "augmented(group=8,taps=6)", "augmented(group=12,local=terraced,scale=none)",
                           "gated_delta(conv=4)", "gated_delta(conv=1,activation=none)"}) {
    for (const int64_t tokens : {1, 23, 61}) {
      EXPECT_LT(worst_difference({.attention = {spec}}, tokens), 5e-4) << spec << " " << tokens;
      EXPECT_LT(
          worst_difference({.heads = 4, .heads_kv = 2, .head_dim = 12, .tied = false, .attention = {spec}}, tokens),
          5e-4)
          << spec << " " << tokens;
      EXPECT_LT(worst_difference({.family = "gpt2", .heads_kv = 3, .attention = {spec}}, tokens), 5e-4)
          << "gpt2 " << spec << " " << tokens;
    }
  }
  for (const char* spec : {"gau(group=8,taps=5)", "gau(group=8,activation=relu2,castling=yes)", "softmax"}) {
    for (const int64_t tokens : {1, 2, 23, 61}) {
      EXPECT_LT(worst_difference({.family = "flash", .attention = {spec}}, tokens), 5e-4)
          << "flash " << spec << " " << tokens;
    }
  }
  for (const char* spec :
       {"softmax", "flash_local(group=8)", "flash_local(group=8,local=terraced)", "augmented(group=8,taps=6)"}) {
    for (const int64_t tokens : {1, 23, 61}) {
      for (const char* encoder : {"softmax", "augmented(group=8,taps=6)", "flash(group=8,local=terraced)"}) {
        EXPECT_LT(worst_difference({.family = "t5", .heads_kv = 3, .attention = {spec}, .encoder_attention = encoder},
                                   tokens),
                  5e-4)
            << "t5 " << spec << " " << encoder << " " << tokens;
      }
    }
  }
}

// Values and gradients of an operator with a hand-written backward pass against autograd of its definition in f64.
template <class Fast, class Plain>
void expect_same(const std::vector<at::Tensor>& inputs, Fast&& fast, Plain&& plain, const std::vector<bool>& trained) {
  std::vector<at::Tensor> a, b;
  for (size_t i = 0; i < inputs.size(); ++i) {
    a.push_back(inputs[i].clone().set_requires_grad(trained[i]));
    b.push_back(inputs[i].to(at::kDouble).set_requires_grad(trained[i]));
  }
  const at::Tensor got = fast(a), expected = plain(b), weight = at::randn_like(got.detach());
  EXPECT_LT((got.to(at::kDouble) - expected).abs().max().item<double>(), 1e-5);
  got.backward(weight);
  expected.backward(weight.to(at::kDouble));
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!trained[i]) continue;
    const double scale = std::max(1.0, b[i].grad().abs().max().item<double>());
    EXPECT_LT((a[i].grad().to(at::kDouble) - b[i].grad()).abs().max().item<double>() / scale, 1e-5) << "input " << i;
  }
}

TEST(TrainOperators, EqualTheirDefinitions) {
  at::manual_seed(3);
  const at::Tensor x = at::randn({7, 12}), weight = at::randn({5, 12}) * 0.3, a = at::randn({3, 12}) * 0.3,
                   b = at::randn({5, 3}) * 0.3;
  expect_same(
      {x, weight, a, b}, [](const std::vector<at::Tensor>& t) { return lora_linear(t[0], t[1], t[2], t[3], 1.5); },
      [](const std::vector<at::Tensor>& t) {
        return at::linear(t[0], t[1]) + at::linear(at::linear(t[0], t[2]), t[3]) * 1.5;
      },
      {true, false, true, true});
  expect_same(
      {x, at::rand({12}) + 0.5}, [](const std::vector<at::Tensor>& t) { return rms_norm(t[0], t[1], 1e-5); },
      [](const std::vector<at::Tensor>& t) { return t[0] / (t[0].square().mean(-1, true) + 1e-5).sqrt() * t[1]; },
      {true, false});
  expect_same(
      {x, at::randn({7, 12})}, [](const std::vector<at::Tensor>& t) { return gated_silu(t[0], t[1]); },
      [](const std::vector<at::Tensor>& t) { return t[0] * t[0].sigmoid() * t[1]; }, {true, true});
}

}  // namespace
}  // namespace espalier
