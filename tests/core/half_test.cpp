// bf16 and half: every number of 16 bits, and around every border between two of them, against their definitions.
#include "core/half.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace espalier {
namespace {

// Sign, exponent, mantissa as IEEE 754 says, in f64.
double half_value(uint16_t half) {
  const double sign = (half & 0x8000) != 0 ? -1.0 : 1.0;
  const int exponent = (half >> 10) & 31, mantissa = half & 1023;
  if (exponent == 31) return mantissa != 0 ? std::nan("") : sign * HUGE_VAL;
  return sign * (exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25));
}

TEST(Half, EveryOneIsItsValue) {
  for (uint32_t half = 0; half < 0x10000; ++half) {
    const float got = half_to_float(static_cast<uint16_t>(half));
    const double expected = half_value(static_cast<uint16_t>(half));
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(got)) << half;
    } else {
      ASSERT_EQ(double{got}, expected) << half;
    }
    ASSERT_EQ(std::signbit(got), half >= 0x8000) << half;
    if (!std::isnan(got)) {
      ASSERT_EQ(float_to_half(got), half) << half;
    }
  }
}

// The magnitudes of all finite ones, then what would follow the greatest.
std::vector<double> half_magnitudes() {
  std::vector<double> values;
  for (uint16_t half = 0; half < 0x7c00; ++half) values.push_back(half_value(half));
  values.push_back(65536.0);  // rounds to infinity, 0x7c00
  return values;
}

TEST(Half, RoundsToTheNearestTiesToEven) {
  const std::vector<double> values = half_magnitudes();
  for (size_t i = 0; i + 1 < values.size(); ++i) {
    const auto below = static_cast<uint16_t>(i), above = static_cast<uint16_t>(i + 1);
    const double middle = (values[i] + values[i + 1]) / 2;
    const auto border = static_cast<float>(middle);
    ASSERT_EQ(double{border}, middle);  // a float holds every border
    const float just_below = std::nextafter(border, 0.0f), just_above = std::nextafter(border, HUGE_VALF);
    const uint16_t even = i % 2 == 0 ? below : above;
    for (const auto& [x, expected] :
         {std::pair{just_below, below}, {border, even}, {just_above, above}, {static_cast<float>(values[i]), below}}) {
      ASSERT_EQ(float_to_half(x), expected) << x;
      ASSERT_EQ(float_to_half(-x), expected | 0x8000) << -x;
    }
  }
}

TEST(Half, KeepsWhatIsNotFiniteAndLosesWhatIsTooSmall) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const float sign : {1.0f, -1.0f}) {
    const uint16_t bit = sign < 0 ? 0x8000 : 0;
    EXPECT_EQ(float_to_half(sign * kInfinity), bit | 0x7c00);
    EXPECT_EQ(float_to_half(sign * std::numeric_limits<float>::max()), bit | 0x7c00);
    EXPECT_EQ(float_to_half(sign * 0.0f), bit);
    EXPECT_EQ(float_to_half(sign * std::numeric_limits<float>::min()), bit);
    EXPECT_EQ(float_to_half(sign * std::numeric_limits<float>::denorm_min()), bit);
  }
  for (const uint32_t bits : {0x7f800001u, 0x7fc00000u, 0x7fffffffu, 0xff800001u, 0xffc12345u}) {
    const uint16_t half = float_to_half(std::bit_cast<float>(bits));
    EXPECT_TRUE(std::isnan(half_value(half))) << bits;
    EXPECT_EQ(half >> 15, bits >> 31) << bits;
  }
}

TEST(Bf16, EveryOneIsTheUpperHalfOfAFloat) {
  for (uint32_t high = 0; high < 0x10000; ++high) {
    const float value = bf16_to_float(static_cast<bf16>(high));
    ASSERT_EQ(std::bit_cast<uint32_t>(value), high << 16);
    if (!std::isnan(value)) {
      ASSERT_EQ(float_to_bf16(value), high);
    }
  }
}

TEST(Bf16, RoundsToTheNearestTiesToEven) {
  for (uint32_t high = 0; high < 0x7f80; ++high) {
    const double below = bf16_to_float(static_cast<bf16>(high));
    // What follows the greatest finite one counts as 2^128 and is written as infinity.
    const double above = high + 1 == 0x7f80 ? 0x1p128 : double{bf16_to_float(static_cast<bf16>(high + 1))};
    for (const uint32_t low : {0x0000u, 0x0001u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu}) {
      const float x = std::bit_cast<float>(high << 16 | low);
      const double to_below = double{x} - below, to_above = above - double{x};
      const bool up = to_above < to_below || (to_above == to_below && high % 2 == 1);
      ASSERT_EQ(float_to_bf16(x), up ? high + 1 : high) << x;
      ASSERT_EQ(float_to_bf16(-x), (up ? high + 1 : high) | 0x8000u) << x;
    }
  }
}

TEST(Bf16, KeepsWhatIsNotFinite) {
  EXPECT_EQ(bf16_to_float(float_to_bf16(HUGE_VALF)), HUGE_VALF);
  EXPECT_EQ(bf16_to_float(float_to_bf16(-HUGE_VALF)), -HUGE_VALF);
  for (const uint32_t bits : {0x7f800001u, 0x7f80ffffu, 0x7fc00000u, 0x7fffffffu, 0xff800001u, 0xffffffffu}) {
    const bf16 value = float_to_bf16(std::bit_cast<float>(bits));
    EXPECT_TRUE(std::isnan(bf16_to_float(value))) << bits;
    EXPECT_EQ(value >> 15, bits >> 31) << bits;
  }
}

}  // namespace
}  // namespace espalier
