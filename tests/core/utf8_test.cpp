// UTF-8 against its definition: all code points, all sequences of one, two and three bytes, and Python's repairs.
#include "core/utf8.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <tuple>
#include <vector>

namespace espalier {
namespace {

// As a number, first byte first.
uint32_t packed(std::string_view bytes) {
  uint32_t number = 0;
  for (const char byte : bytes) number = number << 8 | static_cast<unsigned char>(byte);
  return number;
}

// Of every code point but the surrogates, and all their beginnings; ascending.
struct Encodings {
  std::vector<uint32_t> whole, beginnings;

// Which sequences of one to three bytes begin a character, by walking over all code points.
struct Beginnings {
  std::array<uint8_t, 256> one{};  // bytes of the character that begins so, 0: none
  std::array<uint8_t, 256 * 256> two{};
  std::vector<uint8_t> three = std::vector<uint8_t>(1 << 24);

  Beginnings() {
    for (uint32_t code = 0; code <= 0x10FFFF; ++code) {
      if (code >= 0xD800 && code < 0xE000) continue;
      const uint32_t last = 0x80 + code % 64, third = 0x80 + code / 64 % 64, second = 0x80 + code / 4096 % 64;
      if (code < 0x80)
        add({code});
      else if (code < 0x800)
        add({0xC0 + code / 64, last});
      else if (code < 0x10000)
        add({0xE0 + code / 4096, third, last});
      else
        add({0xF0 + code / 262144, second, third, last});
    }
    std::sort(beginnings.begin(), beginnings.end());
  }
  bool is_whole(std::string_view text) const { return std::binary_search(whole.begin(), whole.end(), packed(text)); }
  bool is_beginning(std::string_view text) const {
    return std::binary_search(beginnings.begin(), beginnings.end(), packed(text));
  }

 private:
  void add(std::initializer_list<uint32_t> bytes) {
    uint32_t number = 0;
    for (const uint32_t byte : bytes) {
      if (number != 0 && (beginnings.empty() || beginnings.back() != number)) beginnings.push_back(number);
      number = number << 8 | byte;
    }
    whole.push_back(number);
  }
};

Utf8Step plain_step(const Encodings& encodings, std::string_view text) {
  size_t longest = 1;
  for (size_t length = 1; length <= text.size(); ++length) {
    if (encodings.is_whole(text.substr(0, length))) return {length, true, false};
    if (encodings.is_beginning(text.substr(0, length))) longest = length;
  }
  return {longest, false, longest == text.size() && encodings.is_beginning(text)};
}

TEST(Utf8, StepsAreThoseOfTheListOfAllCharacters) {
  const Encodings encodings;
  // Both sides of every border.
  const std::string bytes = "\x7F\x80\x8F\x90\x9F\xA0\xBF\xC1\xC2\xDF\xE0\xE1\xED\xEE\xF0\xF1\xF4\xF5\xFF";
  std::vector<std::string> texts = {""};
  for (size_t begin = 0, length = 0; length < 4; ++length) {
    for (const size_t end = texts.size(); begin < end; ++begin) {
      for (const char byte : bytes) texts.push_back(texts[begin] + byte);
    }
  }
  for (size_t i = 1; i < texts.size(); ++i) {
    const std::string& text = texts[i];
    const Utf8Step step = utf8_step(text), plain = plain_step(encodings, text);
    ASSERT_EQ(std::tie(step.bytes, step.valid, step.unfinished), std::tie(plain.bytes, plain.valid, plain.unfinished))
        << ::testing::PrintToString(text);
    // Repaired is every step's character, or a replacement for it.
    std::string repaired;
    size_t error = std::string::npos;
    for (size_t at = 0; at < text.size();) {
      const Utf8Step own = plain_step(encodings, std::string_view(text).substr(at));
      if (!own.valid) error = std::min(error, at);
      repaired += own.valid ? text.substr(at, own.bytes) : "\xEF\xBF\xBD";
      at += own.bytes;
    }
    ASSERT_EQ(utf8_repaired(text), repaired);
    ASSERT_EQ(utf8_error(text), error);
  }
  for (uint32_t number : encodings.whole) {
    std::string text;
    do {
      text.insert(text.begin(), static_cast<char>(number & 0xFF));
    } while ((number >>= 8) != 0);
    ASSERT_EQ(utf8_error(text + text), std::string::npos);
  }
}

}  // namespace
}  // namespace espalier
