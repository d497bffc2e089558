// Beam search against a naive one that keeps nothing between steps, and against all texts there are.
#include "decoding/beam_search.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "core/error.h"
#include "core/rng.h"
#include "support/tiny_model.h"

namespace espalier {
namespace {

using Tokens = std::vector<int32_t>;

struct Text {
  Tokens tokens;
  double sum = 0, score = 0;
  bool ended = false;
};

class PlainBeams {
 public:
  PlainBeams(const Model& model, Tokens prompt, std::set<int32_t> ends, int64_t max_tokens, double length_penalty)
      : model_(model),
        prompt_(std::move(prompt)),
        ends_(std::move(ends)),
        max_tokens_(max_tokens),
        length_penalty_(length_penalty) {}

  // transformers' rules (GenerationMixin._beam_search, early_stopping=False): of all continuations of the open beams
  // the best max(2, 1 + ends) * beams are looked at. Those that end, or are as long as may be, are finished if they
  // are among the first `beams`; the best `beams` of the others go on. Over when none can go on, or when `beams` are
  // finished and the best open sum at its present length does not pass the worst of them.
  std::vector<Text> search(size_t beams, size_t looked_at = 0) {
    std::vector<Text> open = {{}}, finished;
    for (int64_t length = 1; length <= max_tokens_ && !open.empty(); ++length) {
      std::vector<Text> all;
      for (const Text& beam : open) {
        for (const Text& longer : continuations(beam)) all.push_back(longer);
      }
      std::stable_sort(all.begin(), all.end(), [](const Text& a, const Text& b) { return a.sum > b.sum; });
      if (looked_at == 0) looked_at = std::max<size_t>(2, 1 + ends_.size());
      all.resize(std::min(all.size(), looked_at * beams));
      open.clear();
      for (size_t rank = 0; rank < all.size(); ++rank) {
        const bool over = all[rank].ended || length == max_tokens_;
        if (over && rank < beams) finished.push_back(all[rank]);
        if (!over && open.size() < beams) open.push_back(all[rank]);
      }
      sort_by_score(finished);
      finished.resize(std::min(finished.size(), beams));
      if (open.empty()) break;
      if (finished.size() == beams && !(score(open[0].sum, length) > finished.back().score)) break;
    }
    return finished;
  }

  // Every text that ends, or is as long as may be.
  std::vector<Text> all_texts() {
    std::vector<Text> finished, open = {{}};
    for (int64_t length = 1; length <= max_tokens_; ++length) {
      std::vector<Text> longer;
      for (const Text& text : open) {
        for (const Text& next : continuations(text)) {
          (next.ended || length == max_tokens_ ? finished : longer).push_back(next);
        }
      }
      open = std::move(longer);
    }
    sort_by_score(finished);
    return finished;
  }

 private:
  double score(double sum, int64_t length) const {
    return sum / std::pow(static_cast<double>(length), length_penalty_);
  }
  static void sort_by_score(std::vector<Text>& texts) {
    std::stable_sort(texts.begin(), texts.end(), [](const Text& a, const Text& b) { return a.score > b.score; });
  }

  // One for each token of the vocabulary, in ascending id; the whole text is read anew.
  const std::vector<Text>& continuations(const Text& text) {
    const auto [it, is_new] = known_.try_emplace(text.tokens);
    if (!is_new) return it->second;
    Tokens whole = prompt_;
    whole.insert(whole.end(), text.tokens.begin(), text.tokens.end());
    SequenceState state = model_.new_state();
    std::vector<float> logits;
    model_.prefill(state, whole, workspace_, nullptr, &logits);
    double total = 0;
    for (const float logit : logits) total += std::exp(static_cast<double>(logit));
    for (size_t token = 0; token < logits.size(); ++token) {
      Text next = text;
      next.tokens.push_back(static_cast<int32_t>(token));
      // Rounded as a log-probability is, so that equal ones stay equal.
      next.sum += static_cast<float>(logits[token] - std::log(total));
      next.score = score(next.sum, static_cast<int64_t>(next.tokens.size()));
      next.ended = ends_.contains(static_cast<int32_t>(token));
      it->second.push_back(next);
    }
    return it->second;
  }

  const Model& model_;
  Tokens prompt_;
  std::set<int32_t> ends_;
  int64_t max_tokens_;
  double length_penalty_;
  Workspace workspace_{1};
  std::map<Tokens, std::vector<Text>> known_;
};

void expect_beams(const std::vector<Beam>& beams, const std::vector<Text>& texts) {
  ASSERT_EQ(beams.size(), texts.size());
  for (size_t i = 0; i < beams.size(); ++i) {
    ASSERT_EQ(beams[i].tokens, texts[i].tokens) << "beam " << i;
    ASSERT_NEAR(beams[i].score, texts[i].score, 1e-5 * (1 + std::abs(texts[i].score)));
    ASSERT_EQ(beams[i].finish_reason, texts[i].ended ? FinishReason::kStop : FinishReason::kLength);
  }
}

GenerateRequest request_of(const Tokens& prompt, const std::set<int32_t>& ends, int64_t max_tokens) {
  GenerateRequest request{.prompt = prompt};
  request.options.max_tokens = max_tokens;
  request.options.end_ids.assign(ends.begin(), ends.end());
  return request;
}

template <class Change>
void change(ModelFiles& files, const std::string& changed, const Change& body) {
  const auto tensors = std::make_shared<MemoryTensorSource>();
  for (const std::string& name : files.tensors->names()) {
    const TensorInfo& info = *files.tensors->find(name);
    std::vector<float> values = files.tensors->read_checked(name, info.shape);
    if (name == changed) body(values);
    tensors->add(name, info.shape, std::move(values));
  }
  files.tensors = tensors;
}

TEST(BeamSearch, FindsWhatANaiveSearchFinds) {
  Random random(9);
  Workspace workspace(1);
  int64_t ended = 0, by_length = 0, short_search = 0;
  for (uint64_t trial = 0; trial < 300; ++trial) {
    // Where most tokens are ends, enough continuations are to be looked at that some go on.
    const bool mostly_ends = trial % 3 == 0;
    const int64_t vocab = mostly_ends ? 6 + random.below(8) : 5 + random.below(30);
    ModelFiles files = testing::make_tiny_model({.vocab_size = vocab,
                                                 .hidden_size = 16,
                                                 .intermediate_size = 24,
                                                 .layers = 1,
                                                 .head_dim = 8,
                                                 .tied = trial % 2 == 0,
                                                 .seed = trial,
                                                 .attention = {trial % 3 ? "softmax" : "gated_delta"}});
    // All tokens nearly as likely: later beams matter, too.
    if (trial % 2 == 1) {
      change(files, "lm_head.weight", [](std::vector<float>& values) {
        for (float& value : values) value *= 0.03f;
      });
    }
    const auto model = load_model(files, {.weights = WeightType::kF32});
    const Tokens prompt = testing::random_tokens(1 + random.below(4), vocab, trial);
    std::set<int32_t> ends;
    for (int64_t i = mostly_ends ? 2 * vocab : random.below(5); i > 0; --i)
      ends.insert(static_cast<int32_t>(random.below(vocab)));
    const int64_t max_tokens = 1 + random.below(9), beams = 1 + random.below(6);
    constexpr double kPenalties[] = {1.0, 0.0, 2.0, -1.0, 0.3};
    const double penalty = kPenalties[trial % 5];
    GenerateRequest request = request_of(prompt, ends, max_tokens);
    if (trial % 4 == 1) {  // part of the prompt is in the state already
      request.state = model->new_state();
      model->prefill(request.state, std::span(prompt).first(prompt.size() - 1), workspace, nullptr, nullptr);
      request.prompt = {prompt.back()};
    }
    const std::vector<Beam> got = beam_search(*model, request, {.beams = beams, .length_penalty = penalty}, workspace);
    expect_beams(got, PlainBeams(*model, prompt, ends, max_tokens, penalty).search(static_cast<size_t>(beams)));
    if (HasFatalFailure()) FAIL() << "trial " << trial << ": " << beams << " beams, penalty " << penalty;
    int64_t longest = 0;
    for (const Beam& beam : got) {
      ++(beam.finish_reason == FinishReason::kStop ? ended : by_length);
      longest = std::max(longest, static_cast<int64_t>(beam.tokens.size()));
    }
    short_search += longest < max_tokens;
    // Without its end ids the same request runs to its length.
    if (trial % 5 == 0) {
      request.options.ignore_eos = true;
      expect_beams(beam_search(*model, request, {.beams = beams, .length_penalty = penalty}, workspace),
                   PlainBeams(*model, prompt, {}, max_tokens, penalty).search(static_cast<size_t>(beams)));
      if (HasFatalFailure()) FAIL() << "trial " << trial << " without ends";
    }
  }
  EXPECT_GT(ended, 50);
  EXPECT_GT(by_length, 50);
  EXPECT_GT(short_search, 10);
}

// Where most tokens are ends, more than twice as many continuations as beams are looked at: those that go on matter
// where longer texts are better.
TEST(BeamSearch, LooksAtEnoughThatSomeGoOn) {
  Random random(12);
  Workspace workspace(1);
  int matters = 0;
  for (uint64_t trial = 0; trial < 150; ++trial) {
    const int64_t vocab = 10 + random.below(5), beams = 3 + random.below(3);
    ModelFiles files = testing::make_tiny_model({.vocab_size = vocab,
                                                 .hidden_size = 16,
                                                 .intermediate_size = 24,
                                                 .layers = 1,
                                                 .head_dim = 8,
                                                 .tied = false,
                                                 .seed = trial});
    change(files, "lm_head.weight", [](std::vector<float>& values) {
      for (float& value : values) value *= 0.03f;
    });
    const auto model = load_model(files, {.weights = WeightType::kF32});
    std::set<int32_t> ends;
    while (static_cast<int64_t>(ends.size()) < vocab - 3) ends.insert(static_cast<int32_t>(random.below(vocab)));
    PlainBeams plain(*model, {1}, ends, 3, 4.0);
    const std::vector<Text> texts = plain.search(static_cast<size_t>(beams));
    expect_beams(beam_search(*model, request_of({1}, ends, 3), {.beams = beams, .length_penalty = 4.0}, workspace),
                 texts);
    if (HasFatalFailure()) FAIL() << "trial " << trial;
    const std::vector<Text> fewer = plain.search(static_cast<size_t>(beams), 2);
    matters += !std::equal(texts.begin(), texts.end(), fewer.begin(), fewer.end(),
                           [](const Text& a, const Text& b) { return a.tokens == b.tokens; });
  }
  EXPECT_GT(matters, 2);
}

TEST(BeamSearch, WithBeamsForAllTextsFindsAllTextsInTheOrderOfTheirScores) {
  Workspace workspace(1);
  for (const double penalty : {0.0, 1.0, 2.0, -0.5}) {
    for (uint64_t seed = 0; seed < 4; ++seed) {
      const auto model = testing::load_tiny_model({.vocab_size = 4, .layers = 1, .seed = seed});
      const Tokens prompt = {1, 3};
      const std::vector<Text> texts = PlainBeams(*model, prompt, {2}, 4, penalty).all_texts();
      ASSERT_EQ(texts.size(), 1u + 3 + 9 + 27 * 4);
      expect_beams(
          beam_search(*model, request_of(prompt, {2}, 4), {.beams = 300, .length_penalty = penalty}, workspace), texts);
      if (HasFatalFailure()) FAIL() << "penalty " << penalty << " seed " << seed;
    }
  }
}

// Tokens that look the same make texts of equal sums: the lower id comes first, and the better beam's.
TEST(BeamSearch, TiesGoToTheLowerIdAndTheBetterBeam) {
  Workspace workspace(1);
  for (uint64_t seed = 0; seed < 12; ++seed) {
    constexpr int64_t vocab = 8, width = 16;
    ModelFiles files = testing::make_tiny_model(
        {.vocab_size = vocab, .hidden_size = width, .intermediate_size = 24, .layers = 1, .head_dim = 8, .seed = seed});
    change(files, "model.embed_tokens.weight",
           [](std::vector<float>& values) {  // 2, 3 and 5 are one token, 1 and 7 another
             for (const auto& [from, to] : {std::pair{2, 3}, {2, 5}, {1, 7}}) {
               std::copy_n(values.begin() + from * width, width, values.begin() + to * width);
             }
           });
    const auto model = load_model(files, {.weights = WeightType::kF32});
    for (const int64_t beams : {1, 2, 3, 5}) {
      const std::set<int32_t> ends = seed % 2 ? std::set<int32_t>{3} : std::set<int32_t>{0};
      expect_beams(beam_search(*model, request_of({4}, ends, 5), {.beams = beams}, workspace),
                   PlainBeams(*model, {4}, ends, 5, 1.0).search(static_cast<size_t>(beams)));
      if (HasFatalFailure()) FAIL() << "seed " << seed << ", " << beams << " beams";
    }
  }
}

TEST(BeamSearch, OneBeamIsGreedyDecoding) {
  Workspace workspace(1);
  for (uint64_t seed = 0; seed < 6; ++seed) {
    const auto model = testing::load_tiny_model({.seed = seed});
    GenerateRequest request = request_of(testing::random_tokens(4, 97, seed), {}, 20);
    const GenerateResult greedy = Generator(*model, nullptr, workspace).generate(request);
    const std::vector<Beam> beams = beam_search(*model, request, {.beams = 1}, workspace);
    ASSERT_EQ(beams.size(), 1u);
    EXPECT_EQ(beams[0].tokens, greedy.tokens);
  }
}

TEST(BeamSearch, EndsAtPositionsAndWhenCancelled) {
  const auto model = testing::load_tiny_model({.max_positions = 12});
  Workspace workspace(1);
  const Tokens prompt = testing::random_tokens(5, 97, 1);
  const auto lengths = [&](int64_t max_tokens, int64_t max_context) {
    GenerateRequest request = request_of(prompt, {}, max_tokens);
    request.options.max_context = max_context;
    const std::vector<Beam> beams = beam_search(*model, request, {.beams = 3}, workspace);
    for (const Beam& beam : beams) EXPECT_EQ(beam.tokens.size(), beams[0].tokens.size());
    return beams.empty() ? 0 : beams[0].tokens.size();
  };
  EXPECT_EQ(lengths(4, 0), 4u);
  EXPECT_EQ(lengths(40, 0), 7u);  // the model's positions
  EXPECT_EQ(lengths(40, 50), 7u);
  EXPECT_EQ(lengths(40, 8), 3u);
  EXPECT_EQ(lengths(40, 5), 0u);
  EXPECT_EQ(lengths(0, 0), 0u);

  const std::atomic<bool> cancelled = true;
  const std::vector<Beam> none = beam_search(*model, request_of(prompt, {}, 4), {}, workspace, &cancelled);
  ASSERT_EQ(none.size(), 1u);
  EXPECT_TRUE(none[0].tokens.empty());
  EXPECT_EQ(none[0].finish_reason, FinishReason::kCancelled);

  EXPECT_THROW(beam_search(*model, request_of({}, {}, 4), {}, workspace), InvalidArgument);
  EXPECT_THROW(beam_search(*model, request_of(prompt, {}, 4), {.beams = 0}, workspace), InvalidArgument);
  EXPECT_THROW(beam_search(*model, request_of(prompt, {}, 4), {.length_penalty = std::nan("")}, workspace),
               InvalidArgument);
  EXPECT_THROW(beam_search(*model, request_of(testing::random_tokens(13, 97, 1), {}, 4), {}, workspace),
               InvalidArgument);
}

}  // namespace
}  // namespace espalier
