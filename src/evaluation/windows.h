// A long text cut into windows that fit a model, and the rows of each window that count.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

namespace espalier {

struct WindowOptions {
  int64_t context = 1024;  // tokens of a window, 2 or more
  int64_t stride = 0;      // from one window's start to the next, at most `context`; 0: context

  // Throws InvalidArgument naming the option and its range.
  void check() const;
};

// Tokens [begin, end); those from `first_target` on are predicted here, each from the ones before it in the window.
struct Window {
  int64_t begin, end, first_target;

  int64_t targets() const { return end - first_target; }
};

// With stride == context the windows follow each other and the first token of each is predicted by none; with a
// smaller stride every token but the text's first is predicted once, with at least context - stride tokens before it.
// This is the loop of transformers' "Perplexity of fixed-length models" page. A window without targets is left out.
std::vector<Window> cut_windows(int64_t tokens, const WindowOptions& options);

// Called after each piece of work: tokens done, tokens in all. May be empty.
using EvaluationProgress = std::function<void(int64_t done, int64_t total)>;

}  // namespace espalier
