// The counter-based generator is SplitMix64 from a start that seed and stream make, and what is drawn from it is even.
#include "core/rng.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <set>

namespace espalier {
namespace {

// Steele, Lea, Flood 2014, as it is published.
class SplitMix {
 public:
  explicit SplitMix(uint64_t state) : state_(state) {}
  uint64_t next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
  }

 private:
  uint64_t state_;
};

TEST(RandomBits, AreSplitMix64FromAStartOfSeedAndStream) {
  SplitMix published(1234567);  // its published numbers
  for (const uint64_t expected : {6457827717110365317ull, 3203168211198807973ull, 9817491932198370423ull,
                                  4593380528125082431ull, 16408922859458223821ull}) {
    ASSERT_EQ(published.next(), expected);
  }
  for (const uint64_t seed : {uint64_t{0}, uint64_t{1}, uint64_t{42}, ~uint64_t{0}, uint64_t{1} << 63}) {
    for (const uint64_t stream : {uint64_t{0}, uint64_t{1}, uint64_t{7}, ~uint64_t{0}}) {
      // The second mixing takes its number as it stands, without the step that next() takes first.
      constexpr uint64_t kStep = 0x9e3779b97f4a7c15ull;
      SplitMix expected(SplitMix((SplitMix(seed).next() ^ (stream + kStep)) - kStep).next());
      for (uint64_t counter = 0; counter < 20; ++counter) {
        ASSERT_EQ(random_bits(seed, stream, counter), expected.next()) << seed << " " << stream << " " << counter;
      }
    }
  }
}

// A change here would change every sampled text, every shuffle and every first value: computed by other code.
TEST(RandomBits, StayWhatTheyWere) {
  EXPECT_EQ(random_bits(0, 0, 0), 0x1cd364143cce4aaeull);
  EXPECT_EQ(random_bits(0, 0, 1), 0x74152ffafb44a602ull);
  EXPECT_EQ(random_bits(0, 1, 0), 0xb65fb670a97a935eull);
  EXPECT_EQ(random_bits(1, 0, 0), 0x5c5b2489b31beb7bull);
  EXPECT_EQ(random_bits(1, 2, 3), 0xfd832bc5946a59adull);
  EXPECT_EQ(random_bits(~uint64_t{0}, ~uint64_t{0}, ~uint64_t{0}), 0x5601b840d45706d7ull);
  EXPECT_EQ(random_bits(uint64_t{1} << 63, 7, uint64_t{1} << 40), 0x872ad4cb2a78b583ull);
  EXPECT_EQ(random_uniform(12345, 0, 4095), 0.5225879304413933);
  EXPECT_EQ(random_uniform(0, 0, 0), 0.11260056966858045);
}

// Neighbouring seeds, streams and counters: no number twice, and as many bits of one as of the other.
TEST(RandomBits, NeighboursHaveNothingInCommon) {
  std::set<uint64_t> seen;
  std::array<int64_t, 64> ones{};
  for (uint64_t seed = 0; seed < 20; ++seed) {
    for (uint64_t stream = 0; stream < 20; ++stream) {
      for (uint64_t counter = 0; counter < 20; ++counter) {
        const uint64_t bits = random_bits(seed, stream, counter);
        seen.insert(bits);
        for (size_t i = 0; i < 64; ++i) ones[i] += bits >> i & 1;
      }
    }
  }
  EXPECT_EQ(seen.size(), 8000u);
  for (const int64_t count : ones) EXPECT_NEAR(static_cast<double>(count), 4000, 5 * std::sqrt(2000.0));
}

TEST(Random, DrawsEvenly) {
  Random random(3, 4);
  constexpr int kDraws = 100000;
  double sum = 0, squares = 0;
  std::array<int, 10> tenths{};
  for (int i = 0; i < kDraws; ++i) {
    const double x = random.uniform();
    ASSERT_TRUE(x >= 0 && x < 1);
    ++tenths[static_cast<size_t>(x * 10)];
    sum += x;
  }
  for (const int count : tenths) EXPECT_NEAR(count, kDraws / 10, 5 * std::sqrt(kDraws * 0.09));
  EXPECT_NEAR(sum / kDraws, 0.5, 0.005);
  sum = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double x = random.normal();
    sum += x;
    squares += x * x;
  }
  EXPECT_NEAR(sum / kDraws, 0.0, 0.015);
  EXPECT_NEAR(squares / kDraws, 1.0, 0.03);
  std::array<int, 7> counts{};
  for (int i = 0; i < kDraws; ++i) ++counts.at(static_cast<size_t>(random.below(7)));
  for (const int count : counts) EXPECT_NEAR(count, kDraws / 7.0, 5 * std::sqrt(kDraws / 7.0));
  for (int i = 0; i < 1000; ++i) {
    const float x = random.uniform(-2.0f, 3.0f);
    ASSERT_TRUE(x >= -2.0f && x <= 3.0f);
  }
  for (int i = 0; i < 100; ++i) EXPECT_EQ(random.below(1), 0);
}

// A Random takes one number after the other from its stream; normal() takes two.
TEST(Random, TakesTheNumbersOfItsStreamInOrder) {
  Random random(9, 5), normal(9, 5);
  for (uint64_t counter = 0; counter < 10; ++counter) EXPECT_EQ(random.bits(), random_bits(9, 5, counter));
  EXPECT_EQ(random.uniform(), random_uniform(9, 5, 10));
  EXPECT_EQ(random.below(1000), static_cast<int64_t>(random_uniform(9, 5, 11) * 1000));
  const double radius = std::sqrt(-2.0 * std::log(1.0 - random_uniform(9, 5, 0)));
  EXPECT_EQ(normal.normal(), static_cast<float>(radius * std::cos(6.283185307179586 * random_uniform(9, 5, 1))));
  EXPECT_EQ(normal.bits(), random_bits(9, 5, 2));
}

}  // namespace
}  // namespace espalier
