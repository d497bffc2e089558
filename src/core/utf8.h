// UTF-8: checking and repairing.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace espalier {

inline constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

struct Utf8Step {
  size_t bytes;  // of the character, or of the invalid sequence's longest valid beginning (at least 1)
  bool valid;
  bool unfinished;  // the text ends inside a character that could still be completed
};

// Looks at the first character of a text that is not empty (Unicode 15, table 3-7; "maximal subpart" practice).
Utf8Step utf8_step(std::string_view text);
// The offset of the first byte that is not valid UTF-8; npos when all is well.
size_t utf8_error(std::string_view text);
// Every invalid sequence replaced by U+FFFD, as Python's decode(errors="replace") does.
std::string utf8_repaired(std::string_view text);

}  // namespace espalier
