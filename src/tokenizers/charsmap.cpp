#include "tokenizers/charsmap.h"

#include <utf8proc.h>

#include <cstring>

#include "core/error.h"
#include "core/utf8.h"
#include "tokenizers/normalizer.h"

namespace espalier {

Charsmap::Charsmap(std::string_view bytes) {
  uint32_t size = 0;
  if (bytes.size() >= sizeof(size)) std::memcpy(&size, bytes.data(), sizeof(size));
  if (bytes.size() < sizeof(size) || size > bytes.size() - sizeof(size) || size % 4 != 0 || size == 0) {
    throw CorruptFile(error_text("tokenizer: precompiled_charsmap", "a trie of as many bytes as it says",
                                 std::to_string(size) + " in " + std::to_string(bytes.size())));
  }
  units_.resize(size / 4);
  std::memcpy(units_.data(), bytes.data() + sizeof(size), size);
  replacements_ = bytes.substr(sizeof(size) + size);
  if (utf8_error(replacements_) != std::string_view::npos) {
    throw CorruptFile(error_text("tokenizer: precompiled_charsmap", "replacements in UTF-8", "other bytes"));
  }
}

// Of the shortest beginning of `chunk` that the trie knows.
std::optional<std::string_view> Charsmap::replacement(std::string_view chunk) const {
  const auto offset = [](uint32_t unit) { return (unit >> 10) << ((unit & (1u << 9)) >> 6); };
  uint32_t node = offset(units_[0]);
  for (const char c : chunk) {
    const uint32_t byte = static_cast<unsigned char>(c);
    node ^= byte;
    if (byte == 0 || node >= units_.size()) return std::nullopt;
    const uint32_t unit = units_[node];
    if ((unit & ((1u << 31) | 0xFF)) != byte) return std::nullopt;
    node ^= offset(unit);
    const bool leaf = (unit >> 8) & 1;
    if (!leaf) continue;
    if (node >= units_.size()) return std::nullopt;
    const uint32_t at = units_[node] & ((1u << 31) - 1);
    if (at >= replacements_.size()) return std::nullopt;
    const std::string_view rest = std::string_view(replacements_).substr(at);
    // An offset into the middle of a character would not be UTF-8.
    if ((rest[0] & 0xC0) == 0x80) return std::nullopt;
    return rest.substr(0, rest.find('\0'));
  }
  return std::nullopt;
}

std::string Charsmap::apply(std::string_view text) const {
  std::string result;
  const auto grapheme_end = [&](std::string_view grapheme) {
    if (grapheme.empty()) return;
    if (grapheme.size() < 6) {
      if (const auto whole = replacement(grapheme)) {
        result += *whole;
        return;
      }
    }
    each_character(grapheme, [&](int32_t, std::string_view bytes) {
      const auto own = replacement(bytes);
      result += own ? *own : bytes;
    });
  };
  size_t begin = 0, at = 0;
  utf8proc_int32_t previous = 0, state = 0;
  each_character(text, [&](int32_t code, std::string_view bytes) {
    if (at > 0 && utf8proc_grapheme_break_stateful(previous, code, &state)) {
      grapheme_end(text.substr(begin, at - begin));
      begin = at;
    }
    previous = code;
    at += bytes.size();
  });
  grapheme_end(text.substr(begin));
  return result;
}

}  // namespace espalier
