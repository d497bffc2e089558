#include "evaluation/windows.h"

#include <gtest/gtest.h>

#include "core/error.h"

namespace espalier {
namespace {

// The loop of transformers' documentation, with trg_len = end - prev_end labels kept, the first of a window lost.
std::vector<Window> documented_loop(int64_t tokens, int64_t context, int64_t stride) {
  std::vector<Window> windows;
  int64_t previous_end = 0;
  for (int64_t begin = 0; begin < tokens; begin += stride) {
    const int64_t end = begin + context < tokens ? begin + context : tokens;
    const int64_t labels = end - previous_end;
    const int64_t first = end - labels > begin ? end - labels : begin + 1;
    if (first < end) windows.push_back({begin, end, first});
    previous_end = end;
    if (end == tokens) break;
  }
  return windows;
}

TEST(Windows, EqualTheDocumentedLoop) {
  for (int64_t tokens = 0; tokens <= 40; ++tokens) {
    for (int64_t context = 2; context <= 12; ++context) {
      for (int64_t stride = 1; stride <= context; ++stride) {
        const auto windows = cut_windows(tokens, {.context = context, .stride = stride});
        const auto expected = documented_loop(tokens, context, stride);
        ASSERT_EQ(windows.size(), expected.size()) << tokens << " " << context << " " << stride;
        for (size_t i = 0; i < windows.size(); ++i) {
          EXPECT_EQ(windows[i].begin, expected[i].begin);
          EXPECT_EQ(windows[i].end, expected[i].end);
          EXPECT_EQ(windows[i].first_target, expected[i].first_target);
        }
      }
    }
  }
}

TEST(Windows, OverlappingOnesScoreEachTokenOnce) {
  for (const int64_t stride : {1, 3, 7}) {
    std::vector<int> scored(30, 0);
    for (const Window& window : cut_windows(30, {.context = 8, .stride = stride})) {
      EXPECT_LE(window.end - window.begin, 8);
      for (int64_t t = window.first_target; t < window.end; ++t) ++scored[static_cast<size_t>(t)];
    }
    EXPECT_EQ(scored[0], 0);
    for (size_t t = 1; t < scored.size(); ++t) EXPECT_EQ(scored[t], 1) << stride << " " << t;
  }
}

TEST(Windows, ConsecutiveOnesLeaveOutTheirFirst) {
  int64_t targets = 0;
  for (const Window& window : cut_windows(25, {.context = 10})) targets += window.targets();
  EXPECT_EQ(targets, 9 + 9 + 4);
}

TEST(Windows, RefusesWhatHasNoMeaning) {
  EXPECT_THROW(cut_windows(10, {.context = 1}), InvalidArgument);
  EXPECT_THROW(cut_windows(10, {.context = 4, .stride = 5}), InvalidArgument);
  EXPECT_THROW(cut_windows(10, {.context = 4, .stride = -1}), InvalidArgument);
}

}  // namespace
}  // namespace espalier
