#include "core/error.h"

#include <gtest/gtest.h>

namespace espalier {
namespace {

TEST(ErrorText, LeavesEmptyPartsOut) {
  EXPECT_EQ(error_text("a", "b", "c", "d"), "[a] expected b, got c; try d");
  EXPECT_EQ(error_text("a", "", "c"), "[a] got c");
  EXPECT_EQ(error_text("a", "b", ""), "[a] expected b");
}

TEST(ErrorText, IsOnePrintableLineWhateverTheFileSays) {
  EXPECT_EQ(error_text("a\nb", "x\x1b[2J", "\xff\r\x7f\t"), "[a?b] expected x?[2J, got \xEF\xBF\xBD???");
  EXPECT_EQ(error_text("a", std::string(1000, 'x'), ""), "[a] expected " + std::string(400, 'x') + "…");
}

}  // namespace
}  // namespace espalier
