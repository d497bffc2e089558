#include "core/half.h"

#include <gtest/gtest.h>

#include <cmath>

namespace espalier {
namespace {

TEST(Bf16, RoundsToTheNearestTiesToEven) {
  for (uint32_t high = 0; high < 0x7f7f; ++high) {
    const double below = bf16_to_float(static_cast<bf16>(high)), above = bf16_to_float(static_cast<bf16>(high + 1));
    for (const uint32_t low : {0x0000u, 0x0001u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu}) {
      const float x = std::bit_cast<float>(high << 16 | low);
      const double to_below = double{x} - below, to_above = above - double{x};
      const bool up = to_above < to_below || (to_above == to_below && high % 2 == 1);
      ASSERT_EQ(double{bf16_to_float(float_to_bf16(x))}, up ? above : below) << x;
      ASSERT_EQ(double{bf16_to_float(float_to_bf16(-x))}, up ? -above : -below) << x;
    }
  }
}

TEST(Bf16, KeepsWhatIsNotFinite) {
  EXPECT_EQ(bf16_to_float(float_to_bf16(HUGE_VALF)), HUGE_VALF);
  EXPECT_EQ(bf16_to_float(float_to_bf16(-HUGE_VALF)), -HUGE_VALF);
  EXPECT_TRUE(std::isnan(bf16_to_float(float_to_bf16(std::bit_cast<float>(0x7f800001u)))));
}

}  // namespace
}  // namespace espalier
