#include "core/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <memory>

namespace espalier {
namespace {

constexpr int kBarWidth = 24;

}  // namespace

Progress::Progress(std::string name, int64_t total, int64_t done)
    : name_(std::move(name)),
      total_(std::max<int64_t>(1, total)),
      done_(done),
      start_units_(done),
      terminal_(is_terminal(STDERR_FILENO)),
      start_(Clock::now()),
      last_(terminal_ ? start_ - std::chrono::hours(1) : start_) {}

Progress::~Progress() {
  if (terminal_ && drawn_) std::fputc('\n', stderr);
}

void Progress::advance(int64_t units, const std::string& text) {
  done_ += units;
  const auto pause = terminal_ ? std::chrono::milliseconds(100) : std::chrono::milliseconds(5000);
  if (Clock::now() - last_ < pause && done_ < total_) return;
  last_ = Clock::now();
  draw(text);
}

void Progress::draw(const std::string& text) {
  const double seconds = std::chrono::duration<double>(last_ - start_).count();
  const double rate = static_cast<double>(done_ - start_units_) / std::max(1e-9, seconds);
  const int64_t left =
      static_cast<int64_t>(static_cast<double>(std::max<int64_t>(0, total_ - done_)) / std::max(1e-9, rate));
  const double share = std::min(1.0, static_cast<double>(done_) / static_cast<double>(total_));
  char figures[128];
  std::snprintf(figures, sizeof(figures), "%3.0f %%  %.*f/s  %ld:%02ld left  %s", 100 * share, rate < 10 ? 1 : 0, rate,
                static_cast<long>(left / 60), static_cast<long>(left % 60), text.c_str());
  if (terminal_) {
    const int filled = static_cast<int>(share * kBarWidth);
    std::fprintf(stderr, "\r\033[K%s [%s%s] %s", name_.c_str(), std::string(static_cast<size_t>(filled), '#').c_str(),
                 std::string(static_cast<size_t>(kBarWidth - filled), '.').c_str(), figures);
  } else {
    std::fprintf(stderr, "%s %s\n", name_.c_str(), figures);
  }
  std::fflush(stderr);
  drawn_ = true;
}

std::function<void(int64_t done, int64_t total)> progress_function(const std::string& name) {
  struct Bar {
    std::unique_ptr<Progress> progress;
    int64_t done = 0;
  };
  return [name, bar = std::make_shared<Bar>()](int64_t done, int64_t total) {
    if (!bar->progress) bar->progress = std::make_unique<Progress>(name, total);
    bar->progress->advance(done - bar->done, "");
    bar->done = done;
  };
}

bool is_terminal(int descriptor) {
  return isatty(descriptor) != 0;
}

}  // namespace espalier
