// Trained heads and small models as drafters: what they guess is what their formulas say, and the text stays the same.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "core/error.h"
#include "decoding/drafters/draft_head.h"
#include "decoding/drafters/model_drafter.h"
#include "decoding/generate.h"
#include "support/random_head.h"
#include "support/tiny_model.h"

namespace espalier {
namespace {

using testing::RandomHead;
using Values = std::vector<double>;

// The formulas of draft_head.h in plain loops.
class PlainHead {
 public:
  PlainHead(const RandomHead& head, const Model& model) : head_(head), model_(model), d_(model.config().hidden_size) {}

  Values cell(const Values& state, int32_t token) const {
    std::vector<float> embedding(static_cast<size_t>(d_)), row(embedding);
    model_.token_rows(token, embedding.data(), row.data());
    Values x = normed(state, "state_norm");
    const Values e = normed(Values(embedding.begin(), embedding.end()), "token_norm");
    x.insert(x.end(), e.begin(), e.end());
    Values wide = product(read("in"), x);
    for (double& value : wide) value /= 1 + std::exp(-value);
    Values result = product(read("out"), wide);
    for (int64_t i = 0; i < d_; ++i) result[static_cast<size_t>(i)] += state[static_cast<size_t>(i)];
    return result;
  }

  std::map<int32_t, double> probabilities(const Values& state) const {
    std::map<int32_t, double> result;
    std::vector<float> embedding(static_cast<size_t>(d_)), row(embedding);
    double sum = 0;
    for (const int32_t token : head_.info.tokens) {
      model_.token_rows(token, embedding.data(), row.data());
      double logit = 0;
      for (int64_t i = 0; i < d_; ++i) logit += double{row[static_cast<size_t>(i)]} * state[static_cast<size_t>(i)];
      sum += result[token] = std::exp(logit);
    }
    for (auto& [token, value] : result) value /= sum;
    return result;
  }

 private:
  std::vector<float> read(const char* name) const {
    const TensorInfo* info = head_.tensors.find(name);
    std::vector<float> values(static_cast<size_t>(info->shape[0] * (info->shape.size() > 1 ? info->shape[1] : 1)));
    head_.tensors.read(name, values.data());
    return values;
  }
  Values normed(const Values& x, const char* weight) const {
    const std::vector<float> w = read(weight);
    double squares = 0;
    for (const double value : x) squares += value * value;
    Values result(x.size());
    for (size_t i = 0; i < x.size(); ++i) result[i] = x[i] / std::sqrt(squares / double(d_) + 1e-6) * w[i];
    return result;
  }
  static Values product(const std::vector<float>& matrix, const Values& x) {
    Values result(matrix.size() / x.size());
    for (size_t o = 0; o < result.size(); ++o) {
      for (size_t i = 0; i < x.size(); ++i) result[o] += matrix[o * x.size() + i] * x[i];
    }
    return result;
  }

  const RandomHead& head_;
  const Model& model_;
  int64_t d_;
};

TEST(DraftHead, GuessesWhatItsFormulasSay) {
  for (const int64_t width : {1, 31, 96}) {
    const auto model = testing::load_tiny_model({.tied = false});
    const RandomHead random(model->config(), width, 3);
    const DraftHead head(random.info, random.tensors, *model, WeightType::kF32);
    const PlainHead plain(random, *model);
    Workspace workspace(2);
    HeadDrafter drafter(head, workspace);
    std::vector<DraftChild> guesses;
    drafter.children(drafter.root(), 1.0, guesses);
    EXPECT_TRUE(guesses.empty());  // nothing seen yet
    Random values(7);
    std::vector<float> hidden(static_cast<size_t>(model->config().hidden_size));
    for (float& value : hidden) value = values.normal();
    drafter.observe(5);
    drafter.see(hidden.data());
    DraftCursor cursor = drafter.root();
    Values state = plain.cell(Values(hidden.begin(), hidden.end()), 5);
    for (const int32_t token : {8, 13, 2}) {
      guesses.clear();
      drafter.children(cursor, 0.5, guesses);
      const std::map<int32_t, double> expected = plain.probabilities(state);
      ASSERT_FALSE(guesses.empty());
      EXPECT_LE(guesses.size(), 4u);
      for (size_t i = 0; i < guesses.size(); ++i) {
        EXPECT_NEAR(guesses[i].score, expected.at(guesses[i].token), 1e-4);
        EXPECT_LE(guesses[i].score, guesses[i == 0 ? 0 : i - 1].score);
      }
      double greatest = 0;
      for (const auto& [guess, probability] : expected) greatest = std::max(greatest, probability);
      EXPECT_NEAR(guesses[0].score, greatest, 1e-4);
      guesses.clear();
      drafter.children(cursor, 1e-3, guesses);
      EXPECT_TRUE(guesses.empty());  // the model hardly comes by
      cursor = drafter.advance(cursor, token);
      state = plain.cell(state, token);
    }
    drafter.reset();
    drafter.children(drafter.root(), 1.0, guesses);
    EXPECT_TRUE(guesses.empty());
  }
}

TEST(DraftHead, RefusesWhatDoesNotFit) {
  const auto model = testing::load_tiny_model({});
  RandomHead good(model->config(), 8, 1);
  EXPECT_NO_THROW(DraftHead(good.info, good.tensors, *model));
  for (const std::vector<int32_t>& tokens : {std::vector<int32_t>{}, {1, 1}, {97}, {-1}}) {
    DraftHeadInfo info = good.info;
    info.tokens = tokens;
    EXPECT_THROW(DraftHead(info, good.tensors, *model), CorruptFile);
  }
  const auto other = testing::load_tiny_model({.hidden_size = 64});
  EXPECT_THROW(DraftHead(good.info, good.tensors, *other), CorruptFile);
  EXPECT_THROW(DraftHead(good.info, MemoryTensorSource(), *model), CorruptFile);
  const auto encoder = testing::load_tiny_model({.family = "bert", .heads_kv = 3, .max_positions = 64});
  EXPECT_THROW(DraftHead(good.info, good.tensors, *encoder), NotSupported);
}

TEST(ModelDrafter, IsAlwaysRightAboutItself) {
  for (const char* attention : {"softmax", "lolcats(group=8)", "gated_delta"}) {
    const auto model = testing::load_tiny_model({.attention = {attention}});
    Workspace workspace(2);
    Generator generator(*model, nullptr, workspace, {.model = model.get()});
    GenerateRequest request{.prompt = testing::random_tokens(5, model->config().vocab_size, 4)};
    request.options.max_tokens = 60;
    request.options.speculation = {.mode = SpeculationMode::kAuto, .tree_nodes = 6};
    const GenerateResult result = generator.generate(request);
    EXPECT_GT(result.stats.tokens_per_step, 2.0) << attention;
    request.options.speculation.mode = SpeculationMode::kNgram;  // not asked in this mode
    EXPECT_LT(generator.generate(request).stats.tokens_per_step, result.stats.tokens_per_step);
  }
}

TEST(ModelDrafter, IsSilentBeyondItsPositions) {
  const auto small = testing::load_tiny_model({.max_positions = 24});
  const auto model = testing::load_tiny_model({});
  Workspace workspace(1);
  GenerateRequest request{.prompt = testing::random_tokens(9, 97, 4)};
  request.options.max_tokens = 60;
  const GenerateResult plain = Generator(*model, nullptr, workspace).generate(request);
  request.options.speculation.mode = SpeculationMode::kAuto;
  EXPECT_EQ(Generator(*model, nullptr, workspace, {.model = small.get()}).generate(request).tokens, plain.tokens);
}

TEST(ModelDrafter, RefusesOtherVocabulariesAndEncoders) {
  const auto model = testing::load_tiny_model({});
  EXPECT_THROW(check_draft_model(*testing::load_tiny_model({.vocab_size = 96}), *model), InvalidArgument);
  const auto encoder = testing::load_tiny_model({.family = "bert", .heads_kv = 3, .max_positions = 64});
  EXPECT_THROW(check_draft_model(*encoder, *model), InvalidArgument);
}

// Head, small model and look-up at once, alone and in batches, on all families and kinds of state.
TEST(Drafters, ChangeNoText) {
  for (const testing::TinyModel& shape : {testing::TinyModel{},
                                          {.attention = {"augmented(group=8,taps=4)"}},
                                          {.attention = {"gated_delta(conv=4)"}},
                                          {.family = "gpt2", .heads_kv = 3},
                                          {.attention = {"hybrid(group=8,sinks=2)"}}}) {
    const auto model = testing::load_tiny_model(shape, WeightType::kBf16);
    const auto small = testing::load_tiny_model({.layers = 1, .seed = 1});
    const RandomHead random(model->config(), 24, 9);
    const DraftHead head(random.info, random.tensors, *model);
    Workspace workspace(2);
    Generator plain(*model, nullptr, workspace);
    Generator drafting(*model, nullptr, workspace, {.head = &head, .model = small.get()});
    int64_t with_tree = 0;
    std::vector<GenerateRequest> requests;
    std::vector<GenerateResult> expected;
    for (uint64_t trial = 0; trial < 9; ++trial) {
      GenerateRequest request{.prompt = testing::random_tokens(1 + static_cast<int64_t>(trial) * 5, 97, trial)};
      request.sequence = trial;
      request.options.max_tokens = 40;
      request.options.sampler.temperature = trial % 2 == 0 ? 0.0 : 0.8;
      expected.push_back(plain.generate(request));
      request.options.speculation = {.mode = SpeculationMode::kAuto, .tree_nodes = 1 + static_cast<int64_t>(trial)};
      const GenerateResult alone = drafting.generate(request);
      EXPECT_EQ(alone.tokens, expected.back().tokens) << shape.attention[0] << " " << trial;
      with_tree += alone.stats.steps_with_tree;
      requests.push_back(request);
    }
    const std::vector<GenerateResult> together = drafting.generate_batch(requests);
    for (size_t i = 0; i < together.size(); ++i) EXPECT_EQ(together[i].tokens, expected[i].tokens);
    EXPECT_GT(with_tree, 50);
  }
}

}  // namespace
}  // namespace espalier
