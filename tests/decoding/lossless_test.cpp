// Law 9: whatever is drafted, tokens, log-probabilities, finish and state are those of plain decoding. Law 10: scoring
// the text gives the same log-probabilities.
#include <gtest/gtest.h>

#include "decoding/generate.h"
#include "support/adversarial_drafter.h"
#include "support/attentions.h"
#include "support/state_bytes.h"
#include "support/tiny_model.h"

namespace espalier {
namespace {

using testing::AdversarialDrafter;

// The same request, with trees of up to `nodes` drafted by one who knows the answer, mostly.
GenerateRequest drafted(const GenerateRequest& plain, const GenerateResult& answer, int64_t nodes, int64_t vocab_size,
                        uint64_t seed) {
  GenerateRequest request = plain;
  std::vector<int32_t> text = plain.prompt;
  text.insert(text.end(), answer.tokens.begin(), answer.tokens.end());
  request.options.speculation.mode = SpeculationMode::kNgram;
  request.options.speculation.tree_nodes = nodes;
  request.options.speculation.make_drafters = [text, vocab_size, seed] {
    std::vector<std::unique_ptr<Drafter>> drafters;
    drafters.push_back(std::make_unique<AdversarialDrafter>(text, vocab_size, seed));
    return drafters;
  };
  return request;
}

void expect_same(const GenerateResult& plain, const GenerateResult& other) {
  EXPECT_EQ(plain.tokens, other.tokens);
  EXPECT_EQ(plain.finish_reason, other.finish_reason);
  EXPECT_EQ(testing::state_bytes(plain.state), testing::state_bytes(other.state));
  ASSERT_EQ(plain.logprobs.size(), other.logprobs.size());
  for (size_t i = 0; i < plain.logprobs.size(); ++i) EXPECT_EQ(plain.logprobs[i].logprob, other.logprobs[i].logprob);
}

class Lossless : public ::testing::TestWithParam<const char*> {};

TEST_P(Lossless, TreesBatchesAndThreadsChangeNothing) {
  const auto model = testing::load_tiny_model({.attention = {GetParam()}}, WeightType::kBf16);
  const int64_t vocab = model->config().vocab_size;
  Workspace one(1), two(2);
  Generator alone(*model, nullptr, one), threaded(*model, nullptr, two);
  int64_t steps = 0, steps_with_tree = 0, accepted = 0;
  for (uint64_t trial = 0; trial < 24; ++trial) {
    GenerateRequest request{.prompt = testing::random_tokens(1 + static_cast<int64_t>(trial) * 2, vocab, trial)};
    request.sequence = trial;
    request.options.max_tokens = 60;
    request.options.logprobs = 0;
    request.options.sampler.temperature = trial % 3 == 0 ? 0.0 : 0.9;
    request.options.sampler.seed = trial;
    if (trial % 3 == 2) request.options.sampler.repeat_penalty = 1.2;
    const GenerateResult plain = alone.generate(request);
    // An end inside what would be accepted.
    if (trial % 2 == 1) request.options.end_ids = {plain.tokens[plain.tokens.size() / 2]};
    const GenerateResult expected = alone.generate(request);
    std::vector<GenerateRequest> batch;
    for (const int64_t nodes : {2, 5, 16, 32}) batch.push_back(drafted(request, plain, nodes, vocab, trial));
    const std::vector<GenerateResult> together = threaded.generate_batch(batch);
    for (const GenerateResult& result : together) expect_same(expected, result);
    const GenerateResult single = alone.generate(batch[2]);
    expect_same(expected, single);
    steps += single.stats.steps;
    steps_with_tree += single.stats.steps_with_tree;
    accepted += single.stats.accepted;
    if (::testing::Test::HasFailure()) FAIL() << GetParam() << " trial " << trial;
  }
  EXPECT_GT(steps_with_tree, steps / 2);  // a speculation that is switched off proves nothing
  EXPECT_GT(accepted, steps_with_tree / 4);
}

TEST_P(Lossless, ScoringGivesTheSameLogProbabilities) {
  const auto model = testing::load_tiny_model({.attention = {GetParam()}});
  Workspace workspace(2);
  GenerateRequest request{.prompt = testing::random_tokens(9, model->config().vocab_size, 4)};
  request.options.max_tokens = 50;
  request.options.logprobs = 0;
  const GenerateResult generated = Generator(*model, nullptr, workspace).generate(request);
  std::vector<int32_t> text = request.prompt;
  text.insert(text.end(), generated.tokens.begin(), generated.tokens.end());
  SequenceState state = model->new_state();
  model->prefill(
      state, text, workspace,
      [&](int64_t index, const float* logits) {
        const int64_t output = index + 1 - static_cast<int64_t>(request.prompt.size());
        if (output < 0 || output >= static_cast<int64_t>(generated.tokens.size())) return;
        EXPECT_EQ(generated.logprobs[output].logprob,
                  token_logprob(model->kernels(), logits, model->config().vocab_size, text[index + 1]));
      },
      nullptr);
}

INSTANTIATE_TEST_SUITE_P(Mechanisms, Lossless, ::testing::ValuesIn(testing::attentions_in_models()));

}  // namespace
}  // namespace espalier
