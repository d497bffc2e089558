#include "core/utf8.h"

#include <algorithm>

namespace espalier {

Utf8Step utf8_step(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned first = byte(0);
  if (first < 0x80) return {1, true, false};
  if (first < 0xC2 || first > 0xF4) return {1, false, false};
  const size_t length = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
  for (size_t i = 1; i < length; ++i) {
    if (i == text.size()) return {i, false, true};
    // The second byte excludes overlong forms, surrogates and values beyond U+10FFFF.
    unsigned low = 0x80, high = 0xBF;
    if (i == 1 && first == 0xE0) low = 0xA0;
    if (i == 1 && first == 0xED) high = 0x9F;
    if (i == 1 && first == 0xF0) low = 0x90;
    if (i == 1 && first == 0xF4) high = 0x8F;
    if (byte(i) < low || byte(i) > high) return {i, false, false};
  }
  return {length, true, false};
}

size_t utf8_error(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const Utf8Step step = utf8_step(text.substr(i, 4));
    if (!step.valid) return i;
    i += step.bytes;
  }
  return std::string_view::npos;
}

std::string utf8_repaired(std::string_view text) {
  std::string repaired;
  for (size_t i = 0; i < text.size();) {
    const Utf8Step step = utf8_step(text.substr(i, 4));
    repaired += step.valid ? text.substr(i, step.bytes) : kReplacement;
    i += step.bytes;
  }
  return repaired;
}

}  // namespace espalier
