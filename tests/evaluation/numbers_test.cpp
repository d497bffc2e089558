// The figures that evaluations report, each counted again by plain loops.
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "core/half.h"
#include "core/rng.h"
#include "core/tokenizer_data.h"
#include "evaluation/agreement.h"
#include "evaluation/median.h"
#include "evaluation/perplexity.h"
#include "evaluation/recall.h"
#include "evaluation/weight_errors.h"
#include "support/byte_level.h"
#include "support/tiny_model.h"

namespace espalier {
namespace {

using testing::load_tiny_model;
using testing::random_tokens;

constexpr double kTolerance = 2e-5;  // f32 log-probabilities against f64 sums

// log softmax after every token of `tokens`, from a fresh state: [tokens][V].
std::vector<std::vector<double>> log_probabilities(const Model& model, std::span<const int32_t> tokens) {
  Workspace workspace(1);
  SequenceState state = model.new_state();
  std::vector<std::vector<double>> rows;
  model.prefill(
      state, tokens, workspace,
      [&](int64_t, const float* logits) {
        double sum = 0;
        std::vector<double> row(logits, logits + model.config().vocab_size);
        for (const double logit : row) sum += std::exp(logit);
        for (double& logit : row) logit -= std::log(sum);
        rows.push_back(row);
      },
      nullptr);
  return rows;
}

// Every token but the first is predicted once, by the first window that reaches it; where windows do not overlap
// their first tokens are not.
struct PlainTarget {
  int64_t window, begin, token;
};
std::vector<PlainTarget> plain_targets(int64_t tokens, int64_t context, int64_t stride) {
  std::vector<PlainTarget> targets;
  std::vector<bool> done(static_cast<size_t>(tokens), false);
  for (int64_t window = 0, begin = 0; begin < tokens; ++window, begin += stride) {
    const int64_t end = std::min(tokens, begin + context);
    for (int64_t t = begin + 1; t < end; ++t) {
      if (!done[static_cast<size_t>(t)]) targets.push_back({window, begin, t});
      done[static_cast<size_t>(t)] = true;
    }
    if (end == tokens) break;
  }
  return targets;
}

TEST(Perplexity, EqualsPlainLoopsOverOverlappingWindows) {
  const auto model = load_tiny_model({.attention = {"window(group=8,sinks=1)"}});
  const std::vector<int32_t> tokens = random_tokens(83, 97, 5);
  Workspace workspace(2);
  for (const auto& [context, stride, group] : std::vector<std::array<int64_t, 3>>{
           {32, 32, 8}, {32, 16, 16}, {32, 31, 20}, {20, 1, 0}, {83, 83, 24}, {100, 7, 8}, {2, 1, 3}, {2, 2, 1}}) {
    const PerplexityResult result = perplexity(
        *model, tokens, {.windows = {.context = context, .stride = stride}, .bucket = 9, .group = group}, workspace);
    const int64_t width = std::max<int64_t>(1, group / 8);
    std::map<int64_t, std::pair<double, int64_t>> by_position, by_offset;
    double loss = 0;
    int64_t n = 0;
    int64_t window = -1;
    std::vector<std::vector<double>> rows;
    for (const PlainTarget& target : plain_targets(83, context, stride)) {
      if (target.window != window) {
        window = target.window;
        rows = log_probabilities(*model,
                                 std::span(tokens).subspan(static_cast<size_t>(target.begin),
                                                           static_cast<size_t>(std::min(context, 83 - target.begin))));
      }
      const int64_t position = target.token - target.begin;
      const double own =
          -rows[static_cast<size_t>(position - 1)][static_cast<size_t>(tokens[static_cast<size_t>(target.token)])];
      loss += own;
      ++n;
      by_position[position / 9].first += own;
      ++by_position[position / 9].second;
      if (group > 0) {
        by_offset[position % group / width].first += own;
        ++by_offset[position % group / width].second;
      }
    }
    EXPECT_EQ(result.n, n);
    EXPECT_NEAR(result.loss, loss, kTolerance * static_cast<double>(n));
    EXPECT_NEAR(result.perplexity() / std::exp(loss / static_cast<double>(n)), 1, 1e-4);
    const auto expect_ranges = [&](const std::vector<LossRange>& got, const auto& expected, int64_t end, int64_t step) {
      ASSERT_EQ(std::ssize(got), (end + step - 1) / step);
      for (int64_t i = 0; i < std::ssize(got); ++i) {
        const LossRange& range = got[static_cast<size_t>(i)];
        EXPECT_EQ(range.begin, i * step);
        EXPECT_EQ(range.end, std::min(end, (i + 1) * step));
        const auto found = expected.find(i);
        const auto [own, count] = found == expected.end() ? std::pair<double, int64_t>{0, 0} : found->second;
        EXPECT_EQ(range.n, count) << context << " " << stride << " range " << i;
        EXPECT_NEAR(range.loss, own, kTolerance * static_cast<double>(count + 1));
        if (count == 0) {
          EXPECT_TRUE(std::isnan(range.perplexity()));
        } else {
          EXPECT_NEAR(range.perplexity() / std::exp(own / static_cast<double>(count)), 1, 1e-4);
        }
      }
    };
    expect_ranges(result.by_position, by_position, context, 9);
    expect_ranges(result.by_offset, by_offset, group, width);
  }
}

TEST(Perplexity, OfTheFirstWindowsIsThatOfTheirTokens) {
  const auto model = load_tiny_model({});
  const std::vector<int32_t> tokens = random_tokens(100, 97, 2);
  Workspace workspace(1);
  for (const int64_t windows : {1, 2, 3, 9}) {
    std::vector<std::pair<int64_t, int64_t>> done;
    const PerplexityResult some =
        perplexity(*model, tokens, {.windows = {.context = 30, .stride = 20}, .max_windows = windows}, workspace,
                   [&](int64_t at, int64_t all) {
                     done.push_back({at, all});
                   });
    const auto end = std::min<int64_t>(100, 10 + 20 * windows);
    const PerplexityResult cut = perplexity(*model, std::span(tokens).first(static_cast<size_t>(end)),
                                            {.windows = {.context = 30, .stride = 20}}, workspace);
    EXPECT_EQ(some.n, end - 1);
    EXPECT_EQ(some.loss, cut.loss);
    EXPECT_EQ(done.back(), std::pair(end, end));
  }
}

TEST(Agreement, EqualsPlainLoopsOverOverlappingWindows) {
  const auto teacher = load_tiny_model({}), student = load_tiny_model({.attention = {"window(group=4)"}});
  const std::vector<int32_t> tokens = random_tokens(140, 97, 8);
  Workspace workspace(2);
  for (const auto& [context, stride] :
       std::vector<std::pair<int64_t, int64_t>>{{65, 65}, {64, 32}, {129, 100}, {3, 2}}) {
    const AgreementResult result =
        agreement(*teacher, *student, tokens, {.context = context, .stride = stride}, workspace);
    double kl = 0, teacher_loss = 0, student_loss = 0;
    int64_t n = 0, same = 0, window = -1;
    std::vector<std::vector<double>> p, q;
    for (const PlainTarget& target : plain_targets(140, context, stride)) {
      if (target.window != window) {
        window = target.window;
        const auto piece = std::span(tokens).subspan(static_cast<size_t>(target.begin),
                                                     static_cast<size_t>(std::min(context, 140 - target.begin)));
        p = log_probabilities(*teacher, piece);
        q = log_probabilities(*student, piece);
      }
      const auto row = static_cast<size_t>(target.token - target.begin - 1);
      const auto token = static_cast<size_t>(tokens[static_cast<size_t>(target.token)]);
      for (size_t i = 0; i < 97; ++i) kl += std::exp(p[row][i]) * (p[row][i] - q[row][i]);
      same += std::max_element(p[row].begin(), p[row].end()) - p[row].begin() ==
              std::max_element(q[row].begin(), q[row].end()) - q[row].begin();
      teacher_loss -= p[row][token];
      student_loss -= q[row][token];
      ++n;
    }
    const auto count = static_cast<double>(n);
    EXPECT_EQ(result.n, n);
    EXPECT_EQ(result.same_top, same);
    EXPECT_NEAR(result.kl, kl, kTolerance * count);
    EXPECT_NEAR(result.teacher_loss, teacher_loss, kTolerance * count);
    EXPECT_NEAR(result.student_loss, student_loss, kTolerance * count);
    EXPECT_NEAR(result.top1_agreement(), static_cast<double>(same) / count, 1e-12);
    EXPECT_NEAR(result.mean_kl(), kl / count, kTolerance);
    EXPECT_NEAR(result.teacher_perplexity() / std::exp(teacher_loss / count), 1, 1e-4);
    EXPECT_NEAR(result.student_perplexity() / std::exp(student_loss / count), 1, 1e-4);
  }
}

// Passage, gap, passage: the tokens of both but their first, each from all before it.
TEST(Recall, CopyPerplexitiesArePlainMeans) {
  const auto model = load_tiny_model({.vocab_size = 256, .attention = {"window(group=8)"}});
  const auto tokenizer = testing::byte_tokenizer();
  const std::vector<int32_t> text = random_tokens(150, 256, 4);
  Workspace workspace(1);
  for (const auto& [copy, gap, trials] : std::vector<std::array<int64_t, 3>>{{20, 30, 3}, {2, 0, 5}, {9, 1, 1}}) {
    std::vector<int64_t> done;
    const RecallResult result =
        recall(*model, *tokenizer, text, {.copy_tokens = copy, .gap_tokens = gap, .trials = trials, .probes = 2},
               workspace, [&](int64_t at, int64_t all) {
                 done.push_back(at);
                 EXPECT_EQ(all, trials + 2);
               });
    EXPECT_EQ(std::ssize(done), trials + 2);
    double first = 0, second = 0;
    for (int64_t trial = 0; trial < trials; ++trial) {
      const auto begin = text.begin() + (150 - copy - gap) * trial / trials;
      std::vector<int32_t> tokens(begin, begin + copy + gap);
      tokens.insert(tokens.end(), begin, begin + copy);
      const auto rows = log_probabilities(*model, tokens);
      for (int64_t i = 1; i < copy; ++i) {
        const auto at = static_cast<size_t>(i), again = static_cast<size_t>(copy + gap + i);
        first -= rows[at - 1][static_cast<size_t>(tokens[at])];
        second -= rows[again - 1][static_cast<size_t>(tokens[again])];
      }
    }
    const auto n = static_cast<double>(trials * (copy - 1));
    EXPECT_EQ(result.n, trials * (copy - 1));
    EXPECT_NEAR(result.first_copy_perplexity / std::exp(first / n), 1, 1e-4);
    EXPECT_NEAR(result.second_copy_perplexity / std::exp(second / n), 1, 1e-4);
  }
}

TEST(Quantile, IsStraightBetweenValues) {
  EXPECT_EQ(median({3}), 3);
  EXPECT_EQ(median({3, 1}), 2);
  EXPECT_EQ(median({9, 1, 4}), 4);
  EXPECT_EQ(median({9, 1, 4, 5}), 4.5);
  const std::vector<double> values = {50, 10, 40, 20, 30};
  EXPECT_EQ(quantile(values, 0), 10);
  EXPECT_EQ(quantile(values, 1), 50);
  EXPECT_NEAR(quantile(values, 0.25), 20, 1e-12);
  EXPECT_NEAR(quantile(values, 0.1), 14, 1e-12);
  EXPECT_NEAR(quantile(values, 0.95), 48, 1e-12);
}

TEST(WeightErrors, AreLengthsOfTheDifference) {
  MemoryTensorSource tensors;
  Random random(3);
  std::map<std::string, std::vector<float>> matrices;
  for (const auto& [name, scale] : std::map<std::string, float>{{"a", 1.0f}, {"b", 10.0f}, {"c", 0.001f}}) {
    std::vector<float> values(64 * 32);
    for (float& x : values) x = scale * random.normal();
    if (name == "c") values[0] = 0.5f;  // next to it the others are little
    matrices[name] = values;
    tensors.add(name, {32, 64}, values);
  }
  tensors.add("vector", {64}, std::vector<float>(64, 1.00001f));  // no matrix
  tensors.add("zeros", {32, 64}, std::vector<float>(32 * 64, 0.0f));
  int64_t last = 0;
  const auto errors = weight_errors(tensors, [&](int64_t at, int64_t all) {
    EXPECT_EQ(at, last + 1);
    EXPECT_EQ(all, 5);
    last = at;
  });
  EXPECT_EQ(last, 5);
  ASSERT_EQ(errors.size(), 4u);
  for (const WeightError& error : errors) {
    double lost = 0, size = 0, worst = 0;
    std::string worst_name;
    int64_t bytes = 0;
    for (const auto& [name, values] : matrices) {
      WeightMemory memory;
      const PackedMatrix packed(values.data(), 32, 64, error.type, memory);
      double own_lost = 0, own_size = 0;
      for (int64_t o = 0; o < 32; ++o) {
        std::vector<float> row(64);
        packed.row(o, row.data());
        for (size_t i = 0; i < 64; ++i) {
          const float value = values[static_cast<size_t>(o) * 64 + i];
          if (error.type == WeightType::kBf16) {
            EXPECT_EQ(row[i], bf16_to_float(float_to_bf16(value)));
          }
          own_lost += std::pow(double{row[i]} - value, 2);
          own_size += double{value} * value;
        }
      }
      bytes += packed.bytes();
      lost += own_lost;
      size += own_size;
      if (std::sqrt(own_lost / own_size) > worst) worst = std::sqrt(own_lost / own_size), worst_name = name;
    }
    WeightMemory memory;
    bytes += PackedMatrix(std::vector<float>(32 * 64).data(), 32, 64, error.type, memory).bytes();
    EXPECT_EQ(error.bytes, bytes);
    EXPECT_NEAR(error.relative, std::sqrt(lost / size), 1e-9);
    EXPECT_NEAR(error.worst, worst, 1e-9);
    EXPECT_EQ(error.worst_name, worst_name);
  }
  EXPECT_LT(errors[0].relative, errors[1].relative * 2);
  EXPECT_LT(errors[1].relative, errors[2].relative);  // 8 bits, then 4
}

}  // namespace
}  // namespace espalier
