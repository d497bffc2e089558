// Requests from prompt to result: prompts of any length, log-probabilities, statistics, going on.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "decoding/generate.h"
#include "support/adversarial_drafter.h"
#include "support/tiny_model.h"

namespace espalier {
namespace {

using Tokens = std::vector<int32_t>;

// The logits after every token of a text, read in small chunks.
std::vector<std::vector<float>> rows_of(const Model& model, const Tokens& text) {
  std::vector<std::vector<float>> rows;
  Workspace workspace(1);
  SequenceState state = model.new_state();
  const int64_t vocab = model.config().vocab_size;
  model.prefill(
      state, text, workspace, [&](int64_t, const float* logits) { rows.emplace_back(logits, logits + vocab); }, nullptr,
      13);
  return rows;
}

Tokens joined(Tokens a, const Tokens& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

TEST(Generation, PromptsOfAnyLengthAreReadWhole) {
  const auto model = testing::load_tiny_model({.attention = {"softmax", "augmented(group=8,taps=4)"}});
  const int64_t chunk = Model::kPrefillChunk;
  Workspace workspace(1);
  Generator generator(*model, nullptr, workspace);
  std::vector<GenerateRequest> batch;
  for (const int64_t length : {int64_t{1}, int64_t{2}, chunk - 1, chunk, chunk + 1, 2 * chunk, 2 * chunk + 1}) {
    GenerateRequest request{.prompt = testing::random_tokens(length, model->config().vocab_size, length)};
    request.options.max_tokens = 3;
    batch.push_back(request);
  }
  const std::vector<GenerateResult> together = generator.generate_batch(batch);
  for (size_t i = 0; i < batch.size(); ++i) {
    const GenerateResult alone = generator.generate(batch[i]);
    EXPECT_EQ(alone.tokens, together[i].tokens);
    ASSERT_EQ(alone.tokens.size(), 3u);
    const size_t length = batch[i].prompt.size();
    const auto rows = rows_of(*model, joined(batch[i].prompt, alone.tokens));
    for (size_t t = 0; t < 3; ++t) {
      const std::vector<float>& logits = rows[length - 1 + t];
      EXPECT_EQ(alone.tokens[t], std::max_element(logits.begin(), logits.end()) - logits.begin())
          << length << " tokens, then " << t;
    }
    EXPECT_EQ(alone.state.length(), static_cast<int64_t>(length) + 2);
  }
}

// They are those of the model, whatever the sampler does to its logits.
TEST(Generation, LogProbabilitiesAreTheModelsOwn) {
  const auto model = testing::load_tiny_model({});
  Workspace workspace(1);
  GenerateRequest request{.prompt = testing::random_tokens(4, 97, 1)};
  request.options.max_tokens = 30;
  request.options.sampler = {.temperature = 1.7, .top_k = 40, .min_p = 0.01, .repeat_penalty = 2.0, .seed = 3};
  for (const int64_t count : {-1, 0, 1, 4, 97, 200}) {
    request.options.logprobs = count;
    const GenerateResult result = Generator(*model, nullptr, workspace).generate(request);
    ASSERT_EQ(result.logprobs.size(), count < 0 ? 0u : result.tokens.size());
    const auto rows = rows_of(*model, joined(request.prompt, result.tokens));
    for (size_t t = 0; t < result.logprobs.size(); ++t) {
      const std::vector<float>& logits = rows[request.prompt.size() - 1 + t];
      double sum = 0;
      for (const float logit : logits) sum += std::exp(static_cast<double>(logit));
      EXPECT_NEAR(result.logprobs[t].logprob, logits[static_cast<size_t>(result.tokens[t])] - std::log(sum), 1e-5);
      const std::vector<TokenLogprob>& top = result.logprobs[t].top;
      ASSERT_EQ(static_cast<int64_t>(top.size()), std::min<int64_t>(count, 97));
      Tokens order(97);
      std::iota(order.begin(), order.end(), 0);
      std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
      for (size_t i = 0; i < top.size(); ++i) {
        EXPECT_EQ(top[i].token, order[i]);
        EXPECT_NEAR(top[i].logprob, logits[static_cast<size_t>(order[i])] - std::log(sum), 1e-5);
      }
    }
  }
}

TEST(Generation, StatisticsCountStepsAndDrafts) {
  const auto model = testing::load_tiny_model({});
  Workspace workspace(1);
  Generator generator(*model, nullptr, workspace);
  for (uint64_t trial = 0; trial < 12; ++trial) {
    GenerateRequest request{.prompt = testing::random_tokens(5, 97, trial)};
    request.options.max_tokens = 1 + static_cast<int64_t>(trial) * 3;
    const GenerateResult plain = generator.generate(request);
    EXPECT_EQ(plain.stats.steps, request.options.max_tokens - 1);
    EXPECT_EQ(plain.stats.step_tokens, Tokens(plain.tokens.size() - 1, 1));
    EXPECT_EQ(plain.stats.drafted + plain.stats.accepted + plain.stats.steps_with_tree, 0);
    const Tokens text = joined(request.prompt, plain.tokens);
    request.options.speculation = {.mode = SpeculationMode::kNgram, .tree_nodes = 8};
    request.options.speculation.make_drafters = [&] {
      std::vector<std::unique_ptr<Drafter>> drafters;
      drafters.push_back(std::make_unique<testing::AdversarialDrafter>(text, 97, trial));
      return drafters;
    };
    const GenerateStats stats = generator.generate(request).stats;
    const int64_t given = std::accumulate(stats.step_tokens.begin(), stats.step_tokens.end(), int64_t{0});
    EXPECT_EQ(given, static_cast<int64_t>(plain.tokens.size()) - 1);
    EXPECT_EQ(static_cast<int64_t>(stats.step_tokens.size()), stats.steps);
    // The node of the token that ended the text is one more.
    EXPECT_GE(stats.accepted, given - stats.steps);
    EXPECT_LE(stats.accepted, given - stats.steps + 1);
    EXPECT_GE(stats.drafted, stats.accepted);
    EXPECT_LE(stats.drafted, 7 * stats.steps);
    EXPECT_LE(stats.steps_with_tree, stats.steps);
    if (stats.steps > 0) {
      EXPECT_DOUBLE_EQ(stats.tokens_per_step, static_cast<double>(given) / static_cast<double>(stats.steps));
    }
  }
}

TEST(Generation, GoesOnFromItsStateAsIfItHadNotStopped) {
  const auto model = testing::load_tiny_model({.attention = {"window(group=8,sinks=3)"}});
  Workspace workspace(1);
  Generator generator(*model, nullptr, workspace);
  GenerateRequest request{.prompt = testing::random_tokens(7, 97, 1)};
  request.options.max_tokens = 40;
  request.options.sampler = {.temperature = 1.0, .repeat_penalty = 1.5, .repeat_last_n = 12, .seed = 4};
  const GenerateResult whole = generator.generate(request);
  for (const int64_t first : {1, 2, 9, 39}) {
    GenerateRequest part = request;
    part.options.max_tokens = first;
    const GenerateResult before = generator.generate(part);
    GenerateRequest rest = request;
    rest.state = before.state;
    rest.history = joined(request.prompt, {before.tokens.begin(), before.tokens.end() - 1});
    rest.prompt = {before.tokens.back()};
    rest.options.max_tokens = 40 - first;
    EXPECT_EQ(joined(before.tokens, generator.generate(rest).tokens), whole.tokens) << first;
  }
}

TEST(Generation, CancelledBeforeItBeginsItHoldsNothing) {
  const auto model = testing::load_tiny_model({});
  Workspace workspace(1);
  const std::atomic<bool> cancelled = true;
  const GenerateResult result = Generator(*model, nullptr, workspace).generate({.prompt = {1, 2, 3}}, &cancelled);
  EXPECT_EQ(result.finish_reason, FinishReason::kCancelled);
  EXPECT_TRUE(result.tokens.empty());
  EXPECT_EQ(result.state.length(), 0);
  EXPECT_EQ(finish_reason_name(FinishReason::kCancelled), "cancelled");
  EXPECT_EQ(finish_reason_name(FinishReason::kStop), "stop");
  EXPECT_EQ(finish_reason_name(FinishReason::kLength), "length");
}

}  // namespace
}  // namespace espalier
