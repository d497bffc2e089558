// Progress of a long run on stderr: a bar that redraws itself on a terminal, a line every few seconds elsewhere.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

namespace espalier {

// Whether people look at a descriptor: 0 input, 1 results, 2 messages.
bool is_terminal(int descriptor);

class Progress {
 public:
  // `total` units (tokens) make up the run; `done` of them are behind us already.
  Progress(std::string name, int64_t total, int64_t done = 0);
  ~Progress();

  // Call after each step; `text` stands at the end ("loss 0.123").
  void advance(int64_t units, const std::string& text);

 private:
  using Clock = std::chrono::steady_clock;
  void draw(const std::string& text);

  std::string name_;
  int64_t total_, done_, start_units_;
  bool terminal_, drawn_ = false;
  Clock::time_point start_, last_;
};

// The same as a function of (units done, units in all); the bar ends when the last copy goes.
std::function<void(int64_t done, int64_t total)> progress_function(const std::string& name);

}  // namespace espalier
