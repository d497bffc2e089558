// An engine that is entered between steps: whoever comes, goes, forks or waits, each text is the one of running alone.
#include "decoding/engine.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <tuple>

#include "core/error.h"
#include "core/rng.h"
#include "decoding/beam_search.h"
#include "decoding/plain_strategy.h"
#include "decoding/text_sequence.h"
#include "support/adversarial_drafter.h"
#include "support/state_bytes.h"
#include "support/tiny_model.h"

namespace espalier {
namespace {

using Tokens = std::vector<int32_t>;

constexpr int64_t kRequests = 20, kMaxTokens = 14;

// Twenty requests on one model, and what each gives when it runs alone.
class Alone {
 public:
  explicit Alone(const std::string& attention)
      : model_(testing::load_tiny_model(
            {.vocab_size = 31, .hidden_size = 16, .intermediate_size = 24, .attention = {attention}})),
        generator_(*model_, nullptr, workspace_) {
    for (int64_t i = 0; i < kRequests; ++i) {
      GenerateRequest request{.prompt = testing::random_tokens(1 + i * 3 % 40, 31, static_cast<uint64_t>(i))};
      request.sequence = static_cast<uint64_t>(i);
      request.options.max_tokens = 1 + i % kMaxTokens;
      request.options.logprobs = 0;
      request.options.sampler.temperature = i % 3 == 0 ? 0.0 : 1.0;
      request.options.end_ids = {static_cast<int32_t>(i)};
      requests_.push_back(request);
    }
  }

  const Model& model() const { return *model_; }
  const GenerateRequest& request(size_t i) const { return requests_[i]; }

  // What request i gives that went on as sequence number `sequence` after its first `written` tokens, which are those
  // of `text`.
  const GenerateResult& result(size_t i, uint64_t sequence, const Tokens& text, size_t written) {
    const auto [place, is_new] =
        results_.try_emplace({i, sequence, Tokens(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(written))});
    if (is_new) {
      GenerateRequest request = requests_[i];
      request.sequence = sequence;
      request.prompt.insert(request.prompt.end(), text.begin(), text.begin() + static_cast<std::ptrdiff_t>(written));
      request.options.max_tokens -= static_cast<int64_t>(written);
      place->second = generator_.generate(request);
    }
    return place->second;
  }

  // Speculates on what it gives alone, in every second schedule.
  std::unique_ptr<Strategy> strategy(bool trees, size_t i) {
    GenerateRequest request = requests_[i];
    if (!trees) return std::make_unique<PlainStrategy>();
    Tokens text = request.prompt;
    const Tokens& answer = result(i, request.sequence, {}, 0).tokens;
    text.insert(text.end(), answer.begin(), answer.end());
    SpeculationOptions options{.mode = SpeculationMode::kNgram, .tree_nodes = 9};
    options.make_drafters = [text, i] {
      std::vector<std::unique_ptr<Drafter>> drafters;
      drafters.push_back(std::make_unique<testing::AdversarialDrafter>(text, 31, i));
      return drafters;
    };
    return generator_.strategy(options);
  }

 private:
  std::unique_ptr<Model> model_;
  Workspace workspace_{1};
  Generator generator_;
  std::vector<GenerateRequest> requests_;
  std::map<std::tuple<size_t, uint64_t, Tokens>, GenerateResult> results_;
};

// A sequence in a schedule: request `request` as number `sequence` since its first `written` tokens.
struct Running {
  SequenceId id;
  std::shared_ptr<TextSequence> text;
  size_t request;
  uint64_t sequence;
  size_t written;
  bool cancelled = false;
};

// The state after a text, read in one go.
std::string state_after(const Model& model, Tokens text) {
  Workspace workspace(1);
  SequenceState state = model.new_state();
  model.prefill(state, text, workspace, nullptr, nullptr);
  return testing::state_bytes(state);
}

void expect_as_alone(Alone& alone, const Running& one) {
  const GenerateResult got = std::move(*one.text).result();
  const GenerateResult& expected = alone.result(one.request, one.sequence, got.tokens, one.written);
  Tokens text(got.tokens.begin(), got.tokens.begin() + static_cast<std::ptrdiff_t>(one.written));
  text.insert(text.end(), expected.tokens.begin(), expected.tokens.end());
  if (one.cancelled && got.finish_reason == FinishReason::kCancelled) {
    ASSERT_LE(got.tokens.size(), text.size());
    text.resize(got.tokens.size());
  } else {
    ASSERT_EQ(got.finish_reason, expected.finish_reason);
    ASSERT_EQ(testing::state_bytes(got.state), testing::state_bytes(expected.state));
  }
  ASSERT_EQ(got.tokens, text);
  ASSERT_EQ(got.logprobs.size(), got.tokens.size());
  for (size_t i = one.written; i < got.tokens.size(); ++i) {
    ASSERT_EQ(got.logprobs[i].logprob, expected.logprobs[i - one.written].logprob);
  }
  if (got.tokens.empty()) return;
  Tokens whole = alone.request(one.request).prompt;
  whole.insert(whole.end(), got.tokens.begin(), got.tokens.end() - 1);
  ASSERT_EQ(testing::state_bytes(got.state), state_after(alone.model(), whole));
}

// One random schedule to its end: all of the requests come, some are cancelled, some forked.
void run_schedule(Alone& alone, Workspace& workspace, uint64_t seed) {
  Random random(seed);
  Engine engine(alone.model(), workspace);
  std::vector<Running> all;
  std::vector<SequenceId> ended;
  const bool trees = seed % 2 == 1;
  uint64_t forks = 0;
  size_t next = 0;
  while (next < kRequests || engine.running() > 0) {
    const auto choice = random.below(8);
    if (choice < 3 && next < kRequests) {
      const auto text =
          std::make_shared<TextSequence>(alone.model(), nullptr, alone.request(next), alone.strategy(trees, next));
      all.push_back({engine.admit(text), text, next, next, 0});
      ++next;
    } else if (choice == 3 && !all.empty()) {
      Running& one = all[static_cast<size_t>(random.below(std::ssize(all)))];
      one.cancelled = one.cancelled || !one.text->finished();
      engine.cancel(one.id);
    } else if (choice == 4 && !all.empty() && forks < 4) {
      const Running from = all[static_cast<size_t>(random.below(std::ssize(all)))];
      if (from.text->finished()) continue;
      const uint64_t sequence = 100 + forks++;
      const std::shared_ptr<TextSequence> text = from.text->fork(sequence, alone.strategy(trees, from.request));
      all.push_back({engine.admit(text), text, from.request, sequence, from.text->tokens().size()});
    } else {
      const int64_t budgets[] = {1, 5, 64, Engine::kAllPromptRows};
      engine.step(budgets[random.below(4)]);
    }
    if (random.below(4) > 0) continue;
    for (const SequenceId id : engine.finished()) ended.push_back(id);
  }
  for (const SequenceId id : engine.finished()) ended.push_back(id);
  std::sort(ended.begin(), ended.end());
  ASSERT_EQ(ended.size(), all.size());
  for (size_t i = 0; i < all.size(); ++i) {
    ASSERT_EQ(ended[i], all[i].id);
    ASSERT_NO_FATAL_FAILURE(expect_as_alone(alone, all[i])) << "sequence " << i << ", request " << all[i].request;
  }
}

class Engines : public ::testing::TestWithParam<const char*> {};

// 1,000 schedules over all attentions of the suite.
TEST_P(Engines, RandomSchedulesGiveTheTextsOfRunningAlone) {
  constexpr uint64_t kSchedules = 250;
  Alone alone(GetParam());
  Workspace workspace(2);
  for (uint64_t seed = 0; seed < kSchedules; ++seed) {
    ASSERT_NO_FATAL_FAILURE(run_schedule(alone, workspace, seed)) << "schedule " << seed;
  }
}

INSTANTIATE_TEST_SUITE_P(All, Engines,
                         ::testing::Values("softmax", "augmented(group=8,taps=4)", "lolcats(group=8)",
                                           "gated_delta(conv=4)"));

// Counts the rows that it was allowed and took.
class Counted : public TextSequence {
 public:
  using TextSequence::TextSequence;
  void plan(const StepLimits& limits, std::vector<Segment>& segments) override {
    const size_t before = segments.size();
    TextSequence::plan(limits, segments);
    taken = segments.size() == before ? 0 : static_cast<int64_t>(segments.back().tokens.size());
  }
  int64_t taken = 0;
};

TEST(Engine, PromptsShareTheirRowsInTheOrderOfAdmission) {
  const auto model = testing::load_tiny_model({});
  Workspace workspace(1);
  Engine engine(*model, workspace);
  std::vector<std::shared_ptr<Counted>> all;
  const auto admit = [&](int64_t prompt) {
    GenerateRequest request{.prompt = testing::random_tokens(prompt, 97, 1)};
    request.options.max_tokens = 4;
    all.push_back(std::make_shared<Counted>(*model, nullptr, request, std::make_unique<PlainStrategy>()));
    engine.admit(all.back());
  };
  const auto step = [&](int64_t prompt_rows) {
    for (const auto& one : all) one->taken = -1;  // as long as it is not asked
    EXPECT_TRUE(engine.step(prompt_rows));
    std::vector<int64_t> taken;
    for (const auto& one : all) taken.push_back(one->taken);
    return taken;
  };
  using Rows = std::vector<int64_t>;
  admit(3);
  EXPECT_EQ(step(2), Rows({2}));
  admit(20);
  admit(600);
  EXPECT_EQ(step(8), Rows({1, 7, 0}));  // the first prompt is in
  EXPECT_EQ(step(8), Rows({1, 8, 0}));  // who decodes does not wait
  EXPECT_EQ(step(8), Rows({1, 5, 3}));
  EXPECT_EQ(step(1000), Rows({1, 1, Model::kPrefillChunk}));
  EXPECT_EQ(step(1), Rows({-1, 1, 1}));  // the first has ended
  EXPECT_EQ(engine.finished(), std::vector<SequenceId>({1}));
  EXPECT_TRUE(engine.finished().empty());
  EXPECT_THROW(engine.step(0), InvalidArgument);
  engine.cancel(2);
  engine.cancel(1);   // has ended
  engine.cancel(17);  // never was
  EXPECT_EQ(engine.finished(), std::vector<SequenceId>({2}));
  EXPECT_EQ(engine.running(), 1u);
  while (engine.step()) {
  }
  EXPECT_EQ(engine.finished(), std::vector<SequenceId>({3}));
  EXPECT_FALSE(engine.step());
}

// Beams take part in a step beside texts.
TEST(Engine, BeamsAndTextsRunTogether) {
  const auto model = testing::load_tiny_model({.attention = {"augmented(group=8,taps=4)"}});
  Workspace workspace(2);
  GenerateRequest request{.prompt = testing::random_tokens(21, 97, 3)};
  request.options.max_tokens = 12;
  const std::vector<Beam> alone = beam_search(*model, request, {.beams = 3}, workspace);
  const GenerateResult text_alone = Generator(*model, nullptr, workspace).generate(request);
  Engine engine(*model, workspace);
  const auto beams = std::make_shared<BeamSequence>(*model, request, BeamOptions{.beams = 3});
  const auto text = std::make_shared<TextSequence>(*model, nullptr, request, std::make_unique<PlainStrategy>());
  engine.admit(beams);
  engine.step(5);
  engine.admit(text);
  while (engine.step(7)) {
  }
  const std::vector<Beam> together = std::move(*beams).result();
  ASSERT_EQ(together.size(), alone.size());
  for (size_t b = 0; b < alone.size(); ++b) {
    EXPECT_EQ(together[b].tokens, alone[b].tokens);
    EXPECT_EQ(together[b].score, alone[b].score);
  }
  EXPECT_EQ(std::move(*text).result().tokens, text_alone.tokens);
}

}  // namespace
}  // namespace espalier
