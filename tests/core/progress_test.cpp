#include "core/progress.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "core/log.h"

namespace espalier {
namespace {

// The tests' stderr is a file here, so plain lines are expected.
template <class Body>
std::string stderr_of(Body&& body) {
  ::testing::internal::CaptureStderr();
  body();
  return ::testing::internal::GetCapturedStderr();
}

TEST(Progress, WritesALineAtTheEndAndNoneForEveryStep) {
  const std::string text = stderr_of([] {
    Progress progress("training", 1000);
    for (int i = 0; i < 1000; ++i) progress.advance(1, "loss 0.5");
  });
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1);
  EXPECT_EQ(text.find("training 100 %"), 0u);
  EXPECT_NE(text.find("0:00 left"), std::string::npos);
  EXPECT_NE(text.find("loss 0.5"), std::string::npos);
  EXPECT_EQ(text.find('\r'), std::string::npos);
}

TEST(Progress, AsAFunctionCountsWhatIsNew) {
  const std::string text = stderr_of([] {
    const auto progress = progress_function("reading");
    progress(30, 100);
    progress(100, 100);
  });
  EXPECT_EQ(text.find("reading 100 %"), 0u);
}

TEST(Progress, StandsEmptyWorkAndTooMuchOfIt) {
  const std::string text = stderr_of([] {
    Progress empty("empty", 0);
    empty.advance(0, "");
    Progress beyond("beyond", 10);
    beyond.advance(25, "");
  });
  EXPECT_NE(text.find("beyond 100 %"), std::string::npos);
}

TEST(Log, WritesFromItsLevelOnWithOneLineEach) {
  const std::string text = stderr_of([] {
    const Log log(LogLevel::kInfo);
    log.debug("unseen");
    log.info("seen {} %s");
    log.warning("odd");
    Log(LogLevel::kOff).warning("unseen");
  });
  EXPECT_EQ(text, "seen {} %s\nwarning: odd\n");
}

}  // namespace
}  // namespace espalier
