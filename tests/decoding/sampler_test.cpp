// The sampler against plain loops and against transformers' logits processors (tests/data/decoding/make_sampler.py),
// and what its random numbers must be.
#include "decoding/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "checkpoint/safetensors.h"
#include "core/error.h"
#include "core/rng.h"
#include "decoding/generate.h"
#include "support/adversarial_drafter.h"
#include "support/tiny_model.h"

namespace espalier {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// The definition of sampler.h in f64 loops: the probability of every token.
std::vector<double> plain_probabilities(const std::vector<float>& logits, const std::vector<int32_t>& history,
                                        const SamplerOptions& options) {
  const int64_t vocab = static_cast<int64_t>(logits.size()), length = static_cast<int64_t>(history.size());
  std::vector<double> score(logits.begin(), logits.end());
  const int64_t begin = options.repeat_last_n < 0 ? 0 : std::max<int64_t>(0, length - options.repeat_last_n);
  const std::set<int32_t> seen(history.begin() + begin, history.end());
  for (const int32_t token : seen) {
    if (token < 0 || token >= vocab) continue;
    // As a float, so that ties are those of the sampler.
    const float penalty = static_cast<float>(options.repeat_penalty), logit = logits[static_cast<size_t>(token)];
    score[static_cast<size_t>(token)] = logit < 0 ? logit * penalty : logit / penalty;
  }
  std::vector<int32_t> order;  // greatest first
  for (int32_t token = 0; token < vocab; ++token) {
    if (!std::isnan(score[static_cast<size_t>(token)])) order.push_back(token);
  }
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return score[a] > score[b]; });
  if (options.temperature < 1e-6) order.resize(1);
  if (options.top_k > 0 && static_cast<int64_t>(order.size()) > options.top_k) order.resize(options.top_k);
  std::vector<double> weight;
  double total = 0;
  for (const int32_t token : order) {
    const double difference = score[token] - score[order[0]];
    weight.push_back(difference == 0 ? 1.0 : std::exp(difference / options.temperature));
    total += weight.back();
  }
  size_t kept = 1;
  for (double sum = weight[0]; kept < order.size() && (options.top_p == 1.0 || sum < options.top_p * total); ++kept) {
    sum += weight[kept];
  }
  while (kept > 1 && weight[kept - 1] < options.min_p * weight[0]) --kept;
  std::vector<double> probability(logits.size(), 0.0);
  double sum = 0;
  for (size_t i = 0; i < kept; ++i) sum += weight[i];
  for (size_t i = 0; i < kept; ++i) probability[order[i]] = weight[i] / sum;
  return probability;
}

// The token in whose share of [0, 1) `uniform` lies, shares in ascending id; `nearby` gets those that rounding may
// choose instead.
int32_t plain_draw(const std::vector<double>& probability, double uniform, std::set<int32_t>& nearby) {
  constexpr double kRounding = 2e-6;  // of float weights
  double begin = 0;
  int32_t drawn = -1;
  for (size_t token = 0; token < probability.size(); ++token) {
    if (probability[token] == 0) continue;
    const double end = begin + probability[token];
    if (uniform < end && drawn < 0) drawn = static_cast<int32_t>(token);
    if (uniform >= begin - kRounding && uniform < end + kRounding) nearby.insert(static_cast<int32_t>(token));
    begin = end;
  }
  return drawn;
}

// Draws at `positions` positions are those of the plain loop, for every one of them.
void expect_draws(Sampler& sampler, const SamplerOptions& options, uint64_t sequence, const std::vector<float>& logits,
                  const std::vector<int32_t>& history, const std::vector<double>& probability, int64_t positions) {
  int64_t exact = 0;
  for (int64_t position = 0; position < positions; ++position) {
    const int32_t drawn = sampler.sample(logits.data(), history, position);
    std::set<int32_t> nearby;
    const double uniform = random_uniform(options.seed, sequence, static_cast<uint64_t>(position));
    exact += drawn == plain_draw(probability, uniform, nearby);
    ASSERT_TRUE(nearby.contains(drawn)) << "token " << drawn << " at position " << position;
  }
  ASSERT_GE(exact, positions - 1 - positions / 100);
}

SamplerOptions random_options(Random& random) {
  const auto one_of = [&](std::vector<double> values) {
    return values[static_cast<size_t>(random.below(static_cast<int64_t>(values.size())))];
  };
  SamplerOptions options;
  options.temperature = one_of({0.0, 0.4, 1.0, 1.0, 2.5, 50.0});
  options.top_k = static_cast<int64_t>(one_of({0, 0, 1, 2, 3, 17, 64, 1000}));
  options.top_p = one_of({1.0, 1.0, 0.01, 0.3, 0.75, 0.97});
  options.min_p = one_of({0.0, 0.0, 0.05, 0.3, 1.0});
  options.repeat_penalty = one_of({1.0, 1.5, 1.1, 0.5});
  options.repeat_last_n = static_cast<int64_t>(one_of({-1, 0, 1, 2, 5, 9, 10, 11, 64}));
  options.seed = random.bits() % 1000;
  return options;
}

TEST(Sampler, DrawsWhatPlainLoopsDraw) {
  Random random(3);
  int doubtful = 0;
  for (int trial = 0; trial < 1200; ++trial) {
    const int64_t vocab = 1 + random.below(trial % 5 == 0 ? 700 : 40);
    std::vector<float> logits(static_cast<size_t>(vocab));
    // Every second trial is full of ties.
    for (float& logit : logits) logit = trial % 2 ? 2 * random.normal() : static_cast<float>(random.below(5)) - 2.0f;
    for (int64_t i = random.below(4); i > 0 && trial % 3 == 0; --i) logits[random.below(vocab)] = -kInfinity;
    for (int64_t i = random.below(4); i > 0 && trial % 7 == 0; --i) logits[random.below(vocab)] = kNan;
    logits[random.below(vocab)] = 1.0f;
    std::vector<int32_t> history(static_cast<size_t>(random.below(13)));
    for (int32_t& token : history) token = static_cast<int32_t>(random.below(vocab + 2)) - 1;  // also beyond the ends
    const SamplerOptions options = random_options(random);
    Sampler sampler(options, best_kernels(), vocab, 5);
    const std::vector<double> probability = plain_probabilities(logits, history, options);
    // A share of top-p or min-p that a sum of floats may miss or not.
    SamplerOptions more = options, less = options;
    more.top_p = std::min(1.0, options.top_p * (1 + 1e-6)), less.top_p *= options.top_p < 1 ? 1 - 1e-6 : 1;
    more.min_p *= 1 - 1e-6, less.min_p = std::min(1.0, less.min_p * (1 + 1e-6));
    if (plain_probabilities(logits, history, more) != plain_probabilities(logits, history, less)) {
      ++doubtful;
      continue;
    }
    expect_draws(sampler, options, 5, logits, history, probability, 40);
    if (HasFatalFailure()) FAIL() << "trial " << trial << " of " << vocab;
  }
  EXPECT_LT(doubtful, 100);
}

class GoldenSampler {
 public:
  std::vector<float> row(const std::string& name, int64_t index) const {
    const int64_t columns = file_.find(name)->elements() / count(name);
    std::vector<float> values(static_cast<size_t>(columns * count(name)));
    file_.read(name, values.data());
    return {values.begin() + index * columns, values.begin() + (index + 1) * columns};
  }
  int64_t count(const std::string& name) const { return file_.find(name)->shape[0]; }

 private:
  SafetensorsSource file_{{std::string(ESPALIER_TEST_DATA) + "/decoding/sampler.safetensors"}};
};

TEST(Sampler, DrawsFromTheProbabilitiesOfTransformers) {
  const GoldenSampler golden;
  for (int64_t index = 0; index < golden.count("logits"); ++index) {
    const std::vector<float> logits = golden.row("logits", index), values = golden.row("options", index);
    const std::vector<float> shares = golden.row("probabilities", index), seen = golden.row("histories", index);
    const std::vector<int32_t> history(seen.begin(), seen.end());
    const SamplerOptions options{.temperature = values[0],
                                 .top_k = static_cast<int64_t>(values[1]),
                                 .top_p = values[2],
                                 .min_p = values[3],
                                 .repeat_penalty = values[4],
                                 .repeat_last_n = static_cast<int64_t>(values[5]),
                                 .seed = 11};
    Sampler sampler(options, best_kernels(), static_cast<int64_t>(logits.size()), 2);
    expect_draws(sampler, options, 2, logits, history, {shares.begin(), shares.end()}, 400);
    if (HasFatalFailure()) FAIL() << "case " << index;
    // The plain loop agrees, too.
    const std::vector<double> plain = plain_probabilities(logits, history, options);
    for (size_t i = 0; i < plain.size(); ++i) ASSERT_NEAR(plain[i], shares[i], 1e-5) << "case " << index;
  }
}

// The penalised token of two equal ones loses: so a greedy choice tells how far back the penalty looks.
TEST(Sampler, PenaltyReachesExactlyTheWindow) {
  const std::vector<float> logits = {0.5f, 1.0f, 1.0f, -1.0f};
  for (const int64_t window : {1, 2, 3, 8, 64}) {
    for (int64_t back = 1; back <= window + 2; ++back) {
      std::vector<int32_t> history(static_cast<size_t>(window + 5), 3);
      history[history.size() - static_cast<size_t>(back)] = 1;
      Sampler sampler({.repeat_penalty = 1.5, .repeat_last_n = window}, best_kernels(), 4, 0);
      EXPECT_EQ(sampler.sample(logits.data(), history, 0), back <= window ? 2 : 1) << back << " of " << window;
    }
  }
  const std::vector<int32_t> long_ago = [] {
    std::vector<int32_t> history(5000, 3);
    history[0] = 1;
    return history;
  }();
  EXPECT_EQ(
      Sampler({.repeat_penalty = 1.5, .repeat_last_n = -1}, best_kernels(), 4, 0).sample(logits.data(), long_ago, 0),
      2);
  EXPECT_EQ(SamplerOptions().repeat_last_n, 64);
}

TEST(Sampler, RepeatedTokensArePenalisedOnceAndTheNextCallStartsAnew) {
  const std::vector<float> logits = {4.0f, 3.0f, -6.0f};  // once penalised: 4 / 1.3 > 3, twice: less
  const std::vector<int32_t> often = {0, 0, 2, 0, 0, 2, 0}, other = {1};
  Sampler sampler({.repeat_penalty = 1.3}, best_kernels(), 3, 0);
  for (int round = 0; round < 3; ++round) {
    EXPECT_EQ(sampler.sample(logits.data(), often, 0), 0);
    EXPECT_EQ(sampler.sample(logits.data(), other, 0), 0);
  }
  const std::vector<float> below = {-4.0f, -5.0f};  // negative ones are multiplied: -4 * 1.3 < -5
  EXPECT_EQ(sampler.sample(std::vector<float>{-4.0f, -5.0f, -9.0f}.data(), std::vector<int32_t>{0, 0}, 0), 1);
  EXPECT_EQ(sampler.sample(std::vector<float>{-4.0f, -5.3f, -9.0f}.data(), std::vector<int32_t>{0, 0}, 0), 0);
}

// Any number of draws from one sampler are those of a new one each time: no memory but scratch.
TEST(Sampler, EarlierDrawsChangeNothing) {
  Random random(8);
  const SamplerOptions options = {
      .temperature = 0.9, .top_k = 12, .top_p = 0.9, .min_p = 0.02, .repeat_penalty = 1.4, .repeat_last_n = 4};
  constexpr int64_t kVocab = 50;
  Sampler used(options, best_kernels(), kVocab, 3);
  for (int64_t call = 0; call < 200; ++call) {
    std::vector<float> logits(kVocab);
    for (float& logit : logits) logit = 2 * random.normal();
    const std::vector<int32_t> history = testing::random_tokens(random.below(9), kVocab, random.bits());
    Sampler fresh(options, best_kernels(), kVocab, 3);
    EXPECT_EQ(used.sample(logits.data(), history, call), fresh.sample(logits.data(), history, call));
  }
}

TEST(Sampler, TheCrossingTokenOfTopPIsKept) {
  // Shares 1/2, 1/4, 1/8, 1/8: 0.6 is reached inside the second, 0.5 by the first alone.
  std::vector<float> logits;
  for (const double share : {0.5, 0.25, 0.125, 0.125}) logits.push_back(static_cast<float>(std::log(share)));
  const auto kept = [&](double top_p) {
    Sampler sampler({.temperature = 1.0, .top_p = top_p}, best_kernels(), 4, 0);
    std::set<int32_t> drawn;
    for (int64_t position = 0; position < 400; ++position) drawn.insert(sampler.sample(logits.data(), {}, position));
    return drawn;
  };
  EXPECT_EQ(kept(1e-9), (std::set<int32_t>{0}));
  EXPECT_EQ(kept(0.499), (std::set<int32_t>{0}));
  EXPECT_EQ(kept(0.501), (std::set<int32_t>{0, 1}));
  EXPECT_EQ(kept(0.749), (std::set<int32_t>{0, 1}));
  EXPECT_EQ(kept(0.751), (std::set<int32_t>{0, 1, 2}));  // of a tie the lowest id
  EXPECT_EQ(kept(0.876), (std::set<int32_t>{0, 1, 2, 3}));
}

TEST(Sampler, DrawsAreAsFrequentAsTheirProbabilities) {
  Random random(21);
  constexpr int64_t kVocab = 30, kDraws = 20000;
  std::vector<float> logits(kVocab);
  for (float& logit : logits) logit = 1.5f * random.normal();
  const std::vector<int32_t> history = {1, 4, 4, 9, 20};
  for (const SamplerOptions& options : {SamplerOptions{.temperature = 1.0, .seed = 1},
                                        {.temperature = 0.7, .top_k = 9, .seed = 2},
                                        {.temperature = 1.3, .top_p = 0.8, .repeat_penalty = 1.6, .seed = 3},
                                        {.temperature = 1.0, .min_p = 0.1, .seed = 4},
                                        {.temperature = 2.0, .top_k = 20, .top_p = 0.9, .min_p = 0.05, .seed = 5}}) {
    const std::vector<double> probability = plain_probabilities(logits, history, options);
    for (const bool by_sequence : {false, true}) {  // draws at many positions, and of many sequences
      std::map<int32_t, int64_t> count;
      if (by_sequence) {
        for (uint64_t s = 0; s < kDraws; ++s) {
          ++count[Sampler(options, best_kernels(), kVocab, s).sample(logits.data(), history, 6)];
        }
      } else {
        Sampler sampler(options, best_kernels(), kVocab, 0);
        for (int64_t p = 0; p < kDraws; ++p) ++count[sampler.sample(logits.data(), history, p)];
      }
      double chi_square = 0;
      int64_t kinds = 0;
      for (int32_t token = 0; token < kVocab; ++token) {
        const double expected = probability[static_cast<size_t>(token)] * kDraws;
        if (expected == 0) {
          EXPECT_EQ(count[token], 0) << token;
          continue;
        }
        ++kinds;
        chi_square += (count[token] - expected) * (count[token] - expected) / expected;
      }
      // Mean kinds - 1, standard deviation sqrt(2 (kinds - 1)).
      const double degrees = static_cast<double>(kinds - 1);
      EXPECT_LT(chi_square, degrees + 4 * std::sqrt(2 * degrees)) << options.seed;
    }
  }
}

TEST(Sampler, AFunctionOfSeedSequenceAndPosition) {
  const std::vector<float> flat(1000, 0.0f);
  const auto draws = [&](uint64_t seed, uint64_t sequence, int64_t first) {
    Sampler sampler({.temperature = 1.0, .seed = seed}, best_kernels(), 1000, sequence);
    std::vector<int32_t> tokens;
    for (int64_t p = first; p < first + 20; ++p) tokens.push_back(sampler.sample(flat.data(), {}, p));
    return tokens;
  };
  EXPECT_EQ(draws(1, 2, 3), draws(1, 2, 3));
  std::set<std::vector<int32_t>> all;
  int64_t count = 0;
  for (uint64_t seed = 0; seed < 4; ++seed) {
    for (uint64_t sequence = 0; sequence < 4; ++sequence) {
      for (const int64_t first : {0, 1, 2, 100}) all.insert(draws(seed, sequence, first)), ++count;
    }
  }
  EXPECT_EQ(static_cast<int64_t>(all.size()), count);
  const std::vector<int32_t> tokens = draws(1, 2, 3);
  EXPECT_GE(std::set<int32_t>(tokens.begin(), tokens.end()).size(), 15u);  // positions differ
}

TEST(Sampler, GreedyTakesTheLowestOfTiesAndNeverWhatIsNoNumber) {
  Sampler greedy({}, best_kernels(), 5, 0), random({.temperature = 1e6}, best_kernels(), 5, 0);
  EXPECT_EQ(greedy.sample(std::vector<float>{1, 3, 3, 2, 3}.data(), {}, 0), 1);
  EXPECT_EQ(greedy.sample(std::vector<float>{kNan, 3, kNan, 4, -kInfinity}.data(), {}, 0), 3);
  EXPECT_EQ(
      Sampler({.temperature = 9e-7}, best_kernels(), 5, 0).sample(std::vector<float>{1, 3, 3, 2, 0}.data(), {}, 7), 1);
  std::set<int32_t> drawn;
  for (int64_t p = 0; p < 300; ++p) {
    drawn.insert(random.sample(std::vector<float>{kNan, 3, -kInfinity, 4, -900}.data(), {}, p));
  }
  EXPECT_EQ(drawn, (std::set<int32_t>{1, 3, 4}));  // nearly uniform at such a temperature
  for (const std::vector<float>& none :
       {std::vector<float>(5, kNan), std::vector<float>(5, -kInfinity), std::vector<float>{0, kInfinity, 0, 0, 0}}) {
    EXPECT_THROW(greedy.sample(none.data(), {}, 0), Internal);
    EXPECT_THROW(random.sample(none.data(), {}, 0), Internal);
  }
}

TEST(Sampler, RefusesOptionsOutOfRange) {
  const double nan = kNan, infinity = kInfinity;
  for (const double value : {-0.1, 1e7, nan, infinity})
    EXPECT_THROW(SamplerOptions{.temperature = value}.check(), Error);
  EXPECT_THROW(SamplerOptions{.top_k = -1}.check(), InvalidArgument);
  for (const double value : {-0.1, 0.0, 1.1, nan})
    EXPECT_THROW(SamplerOptions{.top_p = value}.check(), InvalidArgument);
  for (const double value : {-0.1, 1.1, nan}) EXPECT_THROW(SamplerOptions{.min_p = value}.check(), InvalidArgument);
  for (const double value : {-1.0, 0.0, nan, infinity}) {
    EXPECT_THROW(SamplerOptions{.repeat_penalty = value}.check(), InvalidArgument);
  }
  EXPECT_THROW(SamplerOptions{.repeat_last_n = -2}.check(), InvalidArgument);
  const SamplerOptions at_the_ends = {.temperature = 1e6, .top_p = 1, .min_p = 1, .repeat_last_n = -1};
  EXPECT_NO_THROW(at_the_ends.check());
  EXPECT_THROW(Sampler({.top_k = -1}, best_kernels(), 5, 0), InvalidArgument);
}

// What generate() draws is what plain loops draw from the model's logits after the text so far: along the path of a
// tree, in a batch whose sequences share a seed, and with a history before the prompt.
TEST(Sampler, GenerateDrawsFromTheTextSoFar) {
  const auto model = testing::load_tiny_model({});
  const int64_t vocab = model->config().vocab_size;
  Workspace workspace(1);
  Generator generator(*model, nullptr, workspace);
  for (const int64_t window : {0, 1, 3, 40, -1}) {
    GenerateRequest request{.prompt = testing::random_tokens(6, vocab, 2)};
    request.history = testing::random_tokens(9, vocab, 3);
    request.state = model->new_state();
    model->prefill(request.state, request.history, workspace, nullptr, nullptr);
    request.options.max_tokens = 40;
    request.options.sampler = {
        .temperature = 1.1, .top_k = 60, .repeat_penalty = 4.0, .repeat_last_n = window, .seed = 17};
    std::vector<GenerateRequest> batch(2, request);
    batch[1].sequence = 1;
    const std::vector<GenerateResult> results = generator.generate_batch(batch);
    EXPECT_NE(results[0].tokens, results[1].tokens);
    for (size_t sequence = 0; sequence < 2; ++sequence) {
      std::vector<int32_t> text = request.history;
      text.insert(text.end(), request.prompt.begin(), request.prompt.end());
      const size_t given = text.size();
      const std::vector<int32_t>& tokens = results[sequence].tokens;
      ASSERT_EQ(tokens.size(), 40u);
      text.insert(text.end(), tokens.begin(), tokens.end());
      std::vector<std::vector<float>> rows;
      SequenceState state = model->new_state();
      model->prefill(
          state, text, workspace, [&](int64_t, const float* logits) { rows.emplace_back(logits, logits + vocab); },
          nullptr);
      for (size_t t = 0; t < tokens.size(); ++t) {
        const std::vector<int32_t> before(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(given + t));
        std::set<int32_t> nearby;
        plain_draw(plain_probabilities(rows[given + t - 1], before, request.options.sampler),
                   random_uniform(17, sequence, given + t), nearby);
        ASSERT_TRUE(nearby.contains(tokens[t])) << "window " << window << " token " << t;
      }
      GenerateRequest drafted = batch[sequence];
      drafted.options.speculation = {.mode = SpeculationMode::kNgram, .tree_nodes = 12};
      drafted.options.speculation.make_drafters = [&] {
        std::vector<std::unique_ptr<Drafter>> drafters;
        drafters.push_back(std::make_unique<testing::AdversarialDrafter>(text, vocab, 4));
        return drafters;
      };
      const GenerateResult result = generator.generate(drafted);
      EXPECT_EQ(result.tokens, tokens);
      EXPECT_GT(result.stats.accepted, 10);
    }
  }
}

TEST(RandomUniform, IsTheMixThatItsCommentNames) {
  const GoldenSampler golden;
  const auto word = [](const std::vector<float>& parts, size_t index) {
    uint64_t value = 0;
    for (size_t i = 0; i < 4; ++i) value |= static_cast<uint64_t>(parts[4 * index + i]) << (16 * i);
    return value;
  };
  for (int64_t index = 0; index < golden.count("mixes"); ++index) {
    const std::vector<float> parts = golden.row("mixes", index);
    const uint64_t bits = word(parts, 3);
    ASSERT_EQ(random_bits(word(parts, 0), word(parts, 1), word(parts, 2)), bits);
    ASSERT_EQ(random_uniform(word(parts, 0), word(parts, 1), word(parts, 2)),
              std::ldexp(static_cast<double>(bits >> 11), -53));
  }
}

// Neighbours in each of the three words make no pattern: each number alone is uniform, and so are pairs.
TEST(RandomUniform, NumbersAndPairsOfNeighboursAreUniform) {
  constexpr int64_t kNumbers = 40000, kBins = 16;
  for (int word = 0; word < 3; ++word) {
    const auto number = [word](uint64_t i) {
      const double u = word == 0   ? random_uniform(i, 3, 5)
                       : word == 1 ? random_uniform(3, i, 5)
                                   : random_uniform(3, 5, i);
      EXPECT_TRUE(u >= 0 && u < 1);
      return static_cast<int64_t>(u * kBins);
    };
    for (const uint64_t apart : {1, 2, 64}) {
      std::vector<int64_t> pairs(kBins * kBins);
      for (uint64_t i = 0; i < kNumbers; ++i) ++pairs[number(i) * kBins + number(i + apart)];
      const double expected = static_cast<double>(kNumbers) / (kBins * kBins), degrees = kBins * kBins - 1;
      double chi_square = 0;
      for (const int64_t count : pairs) chi_square += (count - expected) * (count - expected) / expected;
      EXPECT_LT(chi_square, degrees + 5 * std::sqrt(2 * degrees)) << "word " << word << ", " << apart << " apart";
      EXPECT_GT(chi_square, degrees - 5 * std::sqrt(2 * degrees));  // nor too even
    }
  }
  EXPECT_NE(random_bits(1, 2, 3), random_bits(2, 1, 3));
  EXPECT_NE(random_bits(1, 2, 3), random_bits(1, 3, 2));
}

}  // namespace
}  // namespace espalier
