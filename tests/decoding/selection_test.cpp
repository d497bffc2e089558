// Selection against a sort of everything.
#include "decoding/selection.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "core/rng.h"
#include "decoding/logprob.h"

namespace espalier {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<int32_t> plain_order(const std::vector<float>& x) {
  std::vector<int32_t> ids;
  for (size_t i = 0; i < x.size(); ++i) {
    if (!std::isnan(x[i])) ids.push_back(static_cast<int32_t>(i));
  }
  std::stable_sort(ids.begin(), ids.end(), [&](int32_t a, int32_t b) { return x[a] > x[b]; });
  return ids;
}

// Numbers with many ties, few or none; with infinities; with NaN.
std::vector<float> numbers(int64_t n, int64_t kind, Random& random) {
  std::vector<float> x(static_cast<size_t>(n));
  for (float& value : x) {
    value = kind % 3 == 0 ? random.normal() : static_cast<float>(random.below(kind % 3 == 1 ? 4 : 300)) - 2;
    if (kind >= 3 && random.uniform() < 0.1) value = -kInfinity;
    if (kind >= 6 && random.uniform() < 0.2) value = std::numeric_limits<float>::quiet_NaN();
  }
  return x;
}

TEST(Selection, IsTheBeginningOfAStableSort) {
  Random random(2);
  for (int64_t trial = 0; trial < 3000; ++trial) {
    const int64_t kind = trial % 9;
    const int64_t n = trial % 4 == 0 ? 1 + random.below(5000) : 1 + random.below(150);
    const std::vector<float> x = numbers(n, kind, random);
    std::vector<int32_t> expected = plain_order(x);
    EXPECT_EQ(greatest(x.data(), n), expected.empty() ? -kInfinity : x[expected[0]]);
    const int64_t count = trial % 3 == 0 ? random.below(n + 4) : random.below(12);
    if (static_cast<int64_t>(expected.size()) > count) expected.resize(count);
    std::vector<int32_t> got = {-7, -7};  // what stood there before
    select_greatest(x.data(), n, count, got);
    ASSERT_EQ(got, expected) << n << " numbers of kind " << kind << ", " << count;
  }
}

TEST(Selection, ArgmaxIsTheFirstOfTheGreatest) {
  Random random(4);
  for (const int64_t n : {1, 2, 15, 16, 17, 31, 1023, 1024, 1025, 2048, 2049, 5000}) {
    for (int64_t at = 0; at < n; at += 1 + n / 70) {  // the greatest stands at `at`, and again behind it
      std::vector<float> x = numbers(n, 2, random);
      for (int64_t place = at; place < n; place += 1 + random.below(600)) x[place] = 400;
      ASSERT_EQ(argmax(x.data(), n), at) << n;
      x[at] = 401;
      ASSERT_EQ(argmax(x.data(), n), at) << n;
      if (at > 0) x[at - 1] = std::numeric_limits<float>::quiet_NaN();
      ASSERT_EQ(argmax(x.data(), n), at) << n;
    }
    std::vector<float> last = numbers(n, 2, random);
    last.back() = 400;
    EXPECT_EQ(argmax(last.data(), n), n - 1);
  }
}

TEST(Selection, LogProbabilitiesAreThoseOfF64) {
  Random random(6);
  for (const int64_t n : {1, 7, 16, 33, 1000, 4099}) {
    const std::vector<float> x = numbers(n, n == 33 ? 3 : 0, random);
    double sum = 0;
    for (const float value : x) sum += std::exp(static_cast<double>(value));
    const std::vector<int32_t> order = plain_order(x);
    for (const int64_t count : {int64_t{0}, int64_t{1}, int64_t{5}, n, n + 3}) {
      const std::vector<TokenLogprob> top = top_logprobs(best_kernels(), x.data(), n, count);
      ASSERT_EQ(static_cast<int64_t>(top.size()), std::min(count, n));
      for (size_t i = 0; i < top.size(); ++i) {
        EXPECT_EQ(top[i].token, order[i]);
        if (std::isinf(x[order[i]])) {
          EXPECT_EQ(top[i].logprob, -kInfinity);
          continue;
        }
        EXPECT_NEAR(top[i].logprob, x[order[i]] - std::log(sum), 3e-6);
        EXPECT_EQ(top[i].logprob, token_logprob(best_kernels(), x.data(), n, order[i]));
      }
    }
  }
}

}  // namespace
}  // namespace espalier
