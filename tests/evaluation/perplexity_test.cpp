#include "evaluation/perplexity.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "evaluation/agreement.h"
#include "support/tiny_model.h"

namespace espalier {
namespace {

using testing::load_tiny_model;
using testing::random_tokens;
using testing::TinyModel;

// log softmax of the logits after `tokens`, in plain f64 loops, from a fresh state.
std::vector<double> log_probabilities(const Model& model, std::span<const int32_t> tokens, Workspace& workspace) {
  SequenceState state = model.new_state();
  std::vector<float> logits;
  model.prefill(state, tokens, workspace, nullptr, &logits);
  double greatest = -INFINITY, sum = 0;
  for (const float logit : logits) greatest = std::max(greatest, static_cast<double>(logit));
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - greatest);
  std::vector<double> result;
  for (const float logit : logits) result.push_back(static_cast<double>(logit) - greatest - std::log(sum));
  return result;
}

// The negative log-likelihood of each token of a window but its first.
std::vector<double> plain_losses(const Model& model, std::span<const int32_t> window, Workspace& workspace) {
  std::vector<double> losses;
  for (size_t t = 1; t < window.size(); ++t) {
    losses.push_back(-log_probabilities(model, window.first(t), workspace)[static_cast<size_t>(window[t])]);
  }
  return losses;
}

constexpr double kTolerance = 1e-5;  // f32 log-probabilities against f64 sums

TEST(Perplexity, EqualsPlainLoopsOverWindows) {
  for (const std::string spec : {"softmax", "window(group=8,sinks=2)"}) {
    const auto model = load_tiny_model({.attention = {spec}});
    const std::vector<int32_t> tokens = random_tokens(70, 97, 5);
    Workspace workspace(2);
    const PerplexityResult result =
        perplexity(*model, tokens, {.windows = {.context = 32}, .bucket = 10, .group = 8}, workspace);

    std::vector<double> by_position(4), by_offset(8);
    double loss = 0;
    int64_t n = 0;
    for (const auto& [first, count] : std::initializer_list<std::pair<size_t, size_t>>{{0, 32}, {32, 32}, {64, 6}}) {
      const auto piece = std::span(tokens).subspan(first, count);
      const std::vector<double> losses = plain_losses(*model, piece, workspace);
      for (size_t i = 0; i < losses.size(); ++i, ++n) {
        loss += losses[i];
        by_position[(i + 1) / 10] += losses[i];
        by_offset[(i + 1) % 8] += losses[i];
      }
    }
    EXPECT_EQ(result.n, n);
    EXPECT_NEAR(result.loss, loss, kTolerance * static_cast<double>(n));
    EXPECT_NEAR(result.perplexity() / std::exp(loss / static_cast<double>(n)), 1, kTolerance);
    ASSERT_EQ(result.by_position.size(), by_position.size());
    ASSERT_EQ(result.by_offset.size(), by_offset.size());
    int64_t counted = 0;
    for (size_t i = 0; i < by_position.size(); ++i) {
      EXPECT_NEAR(result.by_position[i].loss, by_position[i], kTolerance * 40);
      counted += result.by_position[i].n;
    }
    EXPECT_EQ(counted, n);
    EXPECT_EQ(result.by_position[3].begin, 30);
    EXPECT_EQ(result.by_position[3].end, 32);
    for (size_t i = 0; i < by_offset.size(); ++i) EXPECT_NEAR(result.by_offset[i].loss, by_offset[i], kTolerance * 40);
  }
}

TEST(Perplexity, IsTheSameForAnyNumberOfThreads) {
  const auto model = load_tiny_model({});
  const std::vector<int32_t> tokens = random_tokens(90, 97, 6);
  Workspace one(1), three(3);
  const PerplexityOptions options{.windows = {.context = 40, .stride = 15}};
  const PerplexityResult a = perplexity(*model, tokens, options, one), b = perplexity(*model, tokens, options, three);
  EXPECT_EQ(a.loss, b.loss);
  EXPECT_EQ(a.n, 89);
}

TEST(Perplexity, RefusesTooShortATextAndBadOptions) {
  const auto model = load_tiny_model({});
  Workspace workspace(1);
  EXPECT_THROW(perplexity(*model, random_tokens(1, 97, 1), {}, workspace), InvalidArgument);
  EXPECT_THROW(perplexity(*model, random_tokens(9, 97, 1), {.bucket = 0}, workspace), InvalidArgument);
}

TEST(Perplexity, FindsTheGroupOfAMixedModel) {
  EXPECT_EQ(attention_group(*load_tiny_model({})), 0);
  EXPECT_EQ(attention_group(*load_tiny_model({.attention = {"softmax", "window(group=8)"}})), 8);
}

TEST(Agreement, EqualsPlainLoops) {
  const auto teacher = load_tiny_model({}), student = load_tiny_model({.attention = {"window(group=8,sinks=1)"}});
  const std::vector<int32_t> tokens = random_tokens(150, 97, 8);
  Workspace workspace(2);
  const AgreementResult result = agreement(*teacher, *student, tokens, {.context = 100}, workspace);
  double kl = 0, teacher_loss = 0, student_loss = 0;
  int64_t n = 0, same = 0;
  for (const size_t begin : {0, 100}) {
    const auto window = std::span(tokens).subspan(begin, std::min<size_t>(100, tokens.size() - begin));
    for (size_t t = 1; t < window.size(); ++t, ++n) {
      const auto p = log_probabilities(*teacher, window.first(t), workspace);
      const auto q = log_probabilities(*student, window.first(t), workspace);
      for (size_t i = 0; i < p.size(); ++i) kl += std::exp(p[i]) * (p[i] - q[i]);
      same += std::max_element(p.begin(), p.end()) - p.begin() == std::max_element(q.begin(), q.end()) - q.begin();
      teacher_loss -= p[static_cast<size_t>(window[t])];
      student_loss -= q[static_cast<size_t>(window[t])];
    }
  }
  EXPECT_EQ(result.n, n);
  EXPECT_EQ(result.same_top, same);
  EXPECT_LT(same, n);  // the window matters here
  EXPECT_NEAR(result.kl, kl, kTolerance * static_cast<double>(n));
  EXPECT_GT(kl / static_cast<double>(n), 1e-4);
  EXPECT_NEAR(result.teacher_loss, teacher_loss, kTolerance * static_cast<double>(n));
  EXPECT_NEAR(result.student_loss, student_loss, kTolerance * static_cast<double>(n));
}

TEST(Agreement, OfAModelWithItselfIsPerfect) {
  const auto model = load_tiny_model({});
  Workspace workspace(2);
  const AgreementResult result = agreement(*model, *model, random_tokens(80, 97, 2), {.context = 64}, workspace);
  EXPECT_EQ(result.kl, 0);
  EXPECT_EQ(result.top1_agreement(), 1);
  EXPECT_EQ(result.teacher_loss, result.student_loss);
}

TEST(Agreement, RefusesTwoVocabularies) {
  const auto a = load_tiny_model({}), b = load_tiny_model({.vocab_size = 50});
  Workspace workspace(1);
  EXPECT_THROW(agreement(*a, *b, random_tokens(20, 50, 1), {}, workspace), InvalidArgument);
}

}  // namespace
}  // namespace espalier
