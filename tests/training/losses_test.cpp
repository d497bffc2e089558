// Loss and gradient without whole logits against autograd through them.
#include "training/losses.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "support/tiny_model.h"

namespace espalier {
namespace {

Student tiny_student(Trained trained) {
  Student model(testing::make_tiny_model({}),
                {.attention = "lolcats(group=8,taps=4)", .trained = trained, .lora_rank = 4, .lora_rank_mlp = 2});
  at::manual_seed(11);
  const at::NoGradGuard no_grad;
  for (Parameter& parameter : model.parameters()) parameter.tensor.add_(at::randn_like(parameter.tensor) * 0.05);
  return model;
}

at::Tensor random_rows(int64_t rows, int64_t length) {
  at::manual_seed(12);
  return at::randint(0, 97, {rows, length}, at::kLong);
}

// Gradients of all parameters after body(), which are cleared again.
template <class Body>
std::vector<at::Tensor> gradients(Student& model, Body&& body) {
  body();
  std::vector<at::Tensor> result;
  for (Parameter& parameter : model.parameters()) {
    result.push_back(parameter.tensor.grad().defined() ? parameter.tensor.grad().clone()
                                                       : at::zeros_like(parameter.tensor));
    parameter.tensor.mutable_grad() = at::Tensor();
  }
  return result;
}

void expect_near(const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b) {
  ASSERT_EQ(a.size(), b.size());
  double largest = 0.0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double scale = std::max(1e-3, b[i].abs().max().item<double>());
    EXPECT_LT((a[i] - b[i]).abs().max().item<double>() / scale, 1e-3) << i;
    largest = std::max(largest, scale);
  }
  EXPECT_GT(largest, 1e-2);  // there was something to compare
}

TEST(Distill, EqualsAutogradThroughWholeLogits) {
  for (const Trained trained : {Trained::kAttention, Trained::kLora, Trained::kFull}) {
    for (const DistillLoss kind : {DistillLoss::kKl, DistillLoss::kCrossEntropy}) {
      Student model = tiny_student(trained);
      const at::Tensor tokens = random_rows(3, 70);  // 210 rows: more than one tile, a cut within a row
      double got = 0.0, expected = 0.0;
      const auto fast = gradients(model, [&] { got = distill_backward(model, tokens, kind); });
      const auto plain = gradients(model, [&] {
        TrainContext student(model.config(), model.student_attention(), 3, 70);
        TrainContext teacher(model.config(), model.teacher_attention(), 3, 70);
        const at::Tensor log_p =
            model.student().output(student, tokens, Output::kLogits).log_softmax(-1).view({3, 70, 97});
        at::Tensor loss;
        if (kind == DistillLoss::kKl) {
          const at::Tensor log_t =
              model.teacher().output(teacher, tokens, Output::kLogits).detach().log_softmax(-1).view({3, 70, 97});
          loss = (log_t.exp() * (log_t - log_p)).sum(-1).mean();
        } else {
          loss = -log_p.narrow(1, 0, 69).gather(2, tokens.narrow(1, 1, 69).unsqueeze(-1)).mean();
        }
        loss.backward();
        expected = loss.item<double>();
      });
      EXPECT_NEAR(got, expected, 1e-5 * std::abs(expected));
      expect_near(fast, plain);
    }
  }
}

TEST(Transfer, EqualsAutogradOfTheDefinition) {
  Student model = tiny_student(Trained::kLora);
  const at::Tensor tokens = random_rows(2, 50);
  double got = 0.0, expected = 0.0;
  const auto fast = gradients(model, [&] { got = transfer_backward(model, tokens); });
  const auto plain = gradients(model, [&] {
    TrainContext student(model.config(), model.student_attention(), 2, 50);
    TrainContext teacher(model.config(), model.teacher_attention(), 2, 50);
    at::Tensor x = model.teacher().embed(teacher, tokens), sum = at::zeros({});
    for (int64_t l = 0; l < model.teacher().layers(); ++l) {
      const at::Tensor y_t = model.teacher().attention(teacher, l, x).detach();
      const at::Tensor y_s = model.student().attention(student, l, x);
      sum = sum + at::mean((y_s - y_t) * (y_s - y_t)) / at::mean(y_t * y_t);
      x = model.teacher().rest(teacher, l, x, y_t).detach();
    }
    sum.backward();
    expected = sum.item<double>() / static_cast<double>(model.teacher().layers());
  });
  EXPECT_NEAR(got, expected, 1e-5 * expected);
  expect_near(fast, plain);
}

// Each head's gate is the one of all candidates whose attention is nearest to the teacher's.
TEST(SearchTau, TakesTheNearestOfAllForEachHead) {
  Student model = tiny_student(Trained::kLora);
  const at::Tensor tokens = random_rows(2, 50);
  const std::vector<double> candidates = {-10, -3, -1, 0, 1, 3};
  search_tau(model, tokens, candidates);
  const at::NoGradGuard no_grad;
  TrainContext context(model.config(), model.student_attention(), 2, 50);
  TrainContext teacher(model.config(), model.teacher_attention(), 2, 50);
  at::Tensor x = model.teacher().embed(teacher, tokens);
  std::set<double> taken;
  for (int64_t l = 0; l < model.teacher().layers(); ++l) {
    const auto [h, q, k, v] = model.teacher().projections(context, l, x);
    const TrainRows rows = context.rows_of(h, q, k, v);
    at::Tensor& tau = *model.mechanism_parameter(l, "linear.tau");
    const at::Tensor chosen = tau.clone();
    const auto output = [&](const TrainAttention& attention) {
      return attention.mechanism->parallel(rows, attention.parameters).to(at::kDouble);
    };
    const at::Tensor expected = output(model.teacher_attention()[static_cast<size_t>(l)]);
    for (int64_t head = 0; head < model.config().num_attention_heads; ++head) {
      double least = HUGE_VAL, best = 0;
      for (const double candidate : candidates) {
        tau.fill_(candidate);
        const at::Tensor got = output(model.student_attention()[static_cast<size_t>(l)]);
        const double error = (got.select(1, head) - expected.select(1, head)).square().sum().item<double>();
        if (error < least) least = error, best = candidate;
      }
      EXPECT_EQ(chosen[head].item<double>(), best) << l << " " << head;
      taken.insert(best);
    }
    tau.copy_(chosen);
    x = model.teacher().rest(teacher, l, x, model.teacher().attention(teacher, l, x));
  }
  EXPECT_GT(taken.size(), 1u);  // heads differ
}

TEST(HeldOut, EqualsTheMeanOverNextTokens) {
  const Student model = tiny_student(Trained::kLora);
  const at::Tensor rows = random_rows(2, 150);
  const HeldOutLoss loss = held_out_loss(model, true, rows);
  const at::NoGradGuard no_grad;
  TrainContext context(model.config(), model.student_attention(), 2, 150);
  const at::Tensor log_p = model.student().output(context, rows, Output::kLogits).log_softmax(-1).view({2, 150, 97});
  const double expected =
      -log_p.narrow(1, 0, 149).gather(2, rows.narrow(1, 1, 149).unsqueeze(-1)).mean().item<double>();
  EXPECT_EQ(loss.tokens, 298);
  EXPECT_NEAR(std::log(loss.perplexity()), expected, 1e-5);
}

}  // namespace
}  // namespace espalier
