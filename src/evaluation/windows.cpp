#include "evaluation/windows.h"

#include <algorithm>
#include <string>

#include "core/error.h"

namespace espalier {

void WindowOptions::check() const {
  if (context < 2) throw InvalidArgument(error_text("context", "2 tokens or more", std::to_string(context)));
  if (stride < 0 || stride > context) {
    throw InvalidArgument(error_text("stride", "1 to " + std::to_string(context), std::to_string(stride)));
  }
}

std::vector<Window> cut_windows(int64_t tokens, const WindowOptions& options) {
  options.check();
  const int64_t stride = options.stride > 0 ? options.stride : options.context;
  std::vector<Window> windows;
  int64_t scored = 0;  // tokens before this one are behind us
  for (int64_t begin = 0; begin < tokens; begin += stride) {
    const int64_t end = std::min(begin + options.context, tokens);
    const Window window{begin, end, std::max(scored, begin + 1)};
    if (window.targets() > 0) windows.push_back(window);
    scored = end;
    if (end == tokens) break;
  }
  return windows;
}

}  // namespace espalier
