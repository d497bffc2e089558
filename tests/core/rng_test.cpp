// Random numbers of tests, initial values and shuffles: what their comments promise. Those of draws: sampler_test.cpp.
#include "core/rng.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace espalier {
namespace {

constexpr int kNumbers = 40000;

TEST(Random, IsASequenceOfItsSeedAndStream) {
  Random a(3, 4), same(3, 4), other_seed(4, 4), other_stream(3, 5);
  for (uint64_t i = 0; i < 100; ++i) {
    const uint64_t bits = a.bits();
    EXPECT_EQ(bits, random_bits(3, 4, i));
    EXPECT_EQ(bits, same.bits());
    EXPECT_NE(bits, other_seed.bits());
    EXPECT_NE(bits, other_stream.bits());
  }
}

TEST(Random, BelowIsUniformAndBelow) {
  for (const int64_t n : {1, 2, 3, 10, 17}) {
    Random random(static_cast<uint64_t>(n));
    std::vector<int64_t> count(static_cast<size_t>(n));
    for (int i = 0; i < kNumbers; ++i) ++count.at(static_cast<size_t>(random.below(n)));
    const double expected = static_cast<double>(kNumbers) / static_cast<double>(n);
    double chi_square = 0;
    for (const int64_t own : count) chi_square += (own - expected) * (own - expected) / expected;
    const double degrees = static_cast<double>(n - 1);
    EXPECT_LE(chi_square, degrees + 5 * std::sqrt(2 * degrees)) << n;
  }
  Random random(9);
  float least = 1e9f, most = -1e9f;
  for (int i = 0; i < kNumbers; ++i) {
    const float value = random.uniform(-2.0f, 6.0f);
    least = std::min(least, value);
    most = std::max(most, value);
  }
  EXPECT_GE(least, -2.0f);
  EXPECT_LE(most, 6.0f);
  EXPECT_LT(least, -1.99f);
  EXPECT_GT(most, 5.99f);
}

// Moments of the standard normal distribution: 0, 1, 0, 3; and no correlation of neighbours.
TEST(Random, NormalHasTheMomentsOfANormalDistribution) {
  Random random(5);
  double moments[4] = {}, neighbours = 0, before = 0;
  for (int i = 0; i < kNumbers; ++i) {
    const double x = random.normal();
    ASSERT_TRUE(std::isfinite(x));
    for (int power = 1; power <= 4; ++power) moments[power - 1] += std::pow(x, power) / kNumbers;
    neighbours += x * before / kNumbers;
    before = x;
  }
  // Five standard deviations of each.
  EXPECT_NEAR(moments[0], 0, 5 * std::sqrt(1.0 / kNumbers));
  EXPECT_NEAR(moments[1], 1, 5 * std::sqrt(2.0 / kNumbers));
  EXPECT_NEAR(moments[2], 0, 5 * std::sqrt(15.0 / kNumbers));
  EXPECT_NEAR(moments[3], 3, 5 * std::sqrt(96.0 / kNumbers));
  EXPECT_NEAR(neighbours, 0, 5 * std::sqrt(1.0 / kNumbers));
}

}  // namespace
}  // namespace espalier
