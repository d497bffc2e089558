// Each family's forward on tensors against the step half: the same template over another context.
#include "training/train_context.h"

#include <algorithm>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "models/step_loader.h"
#include "support/tiny_model.h"
#include "training/train_model.h"
#include "training/train_operators.h"

namespace espalier {
namespace {

using testing::TinyModel;

// [1, T] of T ids.
at::Tensor row_of(const std::vector<int32_t>& ids) {
  const std::vector<int64_t> wide(ids.begin(), ids.end());
  return at::tensor(wide, at::kLong).unsqueeze(0);
}

// The layers' attention with the random parameters of a tiny model's files.
std::vector<TrainAttention> attention_of(const ModelFiles& files) {
  std::vector<TrainAttention> attention;
  for (int64_t l = 0; l < files.config.num_hidden_layers; ++l) {
    attention.push_back(stored_attention(files.config, *files.tensors, l));
  }
  return attention;
}

// Logits of both worlds for every position; the step half is measured against plain f64 loops in tests/models.
double worst_difference(const TinyModel& shape, int64_t tokens_count) {
  const ModelFiles files = testing::make_tiny_model(shape);
  const std::vector<int32_t> tokens = testing::random_tokens(tokens_count, shape.vocab_size, 5);
  const auto model = load_train_model(files);
  const std::vector<TrainAttention> attention = attention_of(files);
  const at::NoGradGuard no_grad;
  TrainContext context(files.config, attention, 1, tokens_count);
  if (files.config.encoder_layers > 0) {  // the source that testing::start() reads
    context.set_source(model->read_source(row_of(testing::random_tokens(37, shape.vocab_size, 11))));
  }
  const at::Tensor got = model->output(context, row_of(tokens), Output::kLogits);  // [T, V]

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

// All outputs of an encoder, texts of two lengths and of two token types in a batch of the step half.
TEST(TrainContext, EqualsTheStepHalfOfAnEncoder) {
  for (const char* spec : {"softmax", "augmented(group=8,taps=5)", "flash(group=8,local=terraced)",
                           "flash_global(group=8)", "linear", "performer"}) {
    const TinyModel shape{.family = "bert", .heads_kv = 3, .max_positions = 64, .attention = {spec}};
    const ModelFiles files = testing::make_tiny_model(shape);
    const auto model = load_train_model(files);
    const auto step = load_model(files, {.weights = WeightType::kF32});
    const std::vector<TrainAttention> attention = attention_of(files);
    const at::NoGradGuard no_grad;
    Workspace workspace(1);
    for (const Output what : {Output::kLogits, Output::kHidden, Output::kPooled, Output::kLabels}) {
      ASSERT_TRUE(model->gives(what) && step->gives(what));
      std::vector<std::vector<int32_t>> texts, types;
      std::vector<Segment> segments;
      const SequenceState empty = step->new_state();
      for (const int64_t length : {1, 23, 61}) {
        texts.push_back(testing::random_tokens(length, shape.vocab_size, 5));
        types.push_back(testing::random_tokens(length, 2, 6));
      }
      for (size_t i = 0; i < texts.size(); ++i) {
        segments.push_back({.state = &empty, .tokens = texts[i], .outputs = what, .token_types = types[i]});
      }
      StepOutput output;
      step->step(segments, workspace, output);
      const int64_t width = output.width(what);
      for (size_t i = 0; i < texts.size(); ++i) {
        const auto length = static_cast<int64_t>(texts[i].size());
        TrainContext context(files.config, attention, 1, length);
        context.set_token_types(row_of(types[i]));
        const at::Tensor got = model->output(context, row_of(texts[i]), what).contiguous();
        ASSERT_EQ(got.size(1), width);
        double worst = 0.0;
        for (int64_t r = 0; r < length; ++r) {
          for (int64_t c = 0; c < width; ++c) {
            worst = std::max(worst,
                             std::abs(double{got.const_data_ptr<float>()[r * width + c]} - output.row(what, i, r)[c]));
          }
        }
        EXPECT_LT(worst, 5e-4) << spec << " " << length << " " << static_cast<int>(what);
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
