// UTF-8 against its definition: all code points, all sequences of one, two and three bytes, and Python's repairs.
#include "core/utf8.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace espalier {
namespace {

std::string encoded(uint32_t code) {
  std::string text;
  if (code < 0x80) {
    text += static_cast<char>(code);
  } else if (code < 0x800) {
    text += static_cast<char>(0xC0 | (code >> 6));
    text += static_cast<char>(0x80 | (code & 63));
  } else if (code < 0x10000) {
    text += static_cast<char>(0xE0 | (code >> 12));
    text += static_cast<char>(0x80 | (code >> 6 & 63));
    text += static_cast<char>(0x80 | (code & 63));
  } else {
    text += static_cast<char>(0xF0 | (code >> 18));
    text += static_cast<char>(0x80 | (code >> 12 & 63));
    text += static_cast<char>(0x80 | (code >> 6 & 63));
    text += static_cast<char>(0x80 | (code & 63));
  }
  return text;
}

// Which sequences of one to three bytes begin a character, by walking over all code points.
struct Beginnings {
  std::array<uint8_t, 256> one{};  // bytes of the character that begins so, 0: none
  std::array<uint8_t, 256 * 256> two{};
  std::vector<uint8_t> three = std::vector<uint8_t>(1 << 24);

  Beginnings() {
    for (uint32_t code = 0; code <= 0x10FFFF; ++code) {
      if (code >= 0xD800 && code < 0xE000) continue;
      const std::string text = encoded(code);
      const auto length = static_cast<uint8_t>(text.size());
      uint32_t key = static_cast<unsigned char>(text[0]);
      one[key] = length;
      if (length > 1) two[key = key << 8 | static_cast<unsigned char>(text[1])] = length;
      if (length > 2) three[key << 8 | static_cast<unsigned char>(text[2])] = length;
    }
  }
};

const Beginnings& beginnings() {
  static const Beginnings all;
  return all;
}

// What stands at the start of `text`, by those tables: the longest beginning of any character.
Utf8Step plain_step(std::string_view text) {
  const Beginnings& all = beginnings();
  const auto byte = [&](size_t i) { return uint32_t{static_cast<unsigned char>(text[i])}; };
  const uint8_t length = all.one[byte(0)];
  if (length <= 1) return {1, length == 1, false};
  if (text.size() < 2) return {1, false, true};
  if (all.two[byte(0) << 8 | byte(1)] == 0) return {1, false, false};
  if (length == 2) return {2, true, false};
  if (text.size() < 3) return {2, false, true};
  if (all.three[byte(0) << 16 | byte(1) << 8 | byte(2)] == 0) return {2, false, false};
  if (length == 3) return {3, true, false};
  if (text.size() < 4) return {3, false, true};
  return (byte(3) & 0xC0) == 0x80 ? Utf8Step{4, true, false} : Utf8Step{3, false, false};
}

void expect_step(std::string_view text) {
  const Utf8Step got = utf8_step(text), expected = plain_step(text);
  if (got.bytes == expected.bytes && got.valid == expected.valid && got.unfinished == expected.unfinished) return;
  std::string shown;
  for (const char c : text) shown += std::to_string(static_cast<unsigned char>(c)) + " ";
  ADD_FAILURE() << shown << ": " << got.bytes << got.valid << got.unfinished;
}

TEST(Utf8, EveryCodePointIsAStep) {
  for (uint32_t code = 0; code <= 0x10FFFF; ++code) {
    const std::string text = encoded(code);
    const bool surrogate = code >= 0xD800 && code < 0xE000;
    const Utf8Step step = utf8_step(text + "x");
    ASSERT_EQ(step.valid, !surrogate) << code;
    ASSERT_EQ(step.bytes, surrogate ? 1 : text.size()) << code;
    ASSERT_EQ(utf8_error(text), surrogate ? 0 : std::string_view::npos) << code;
  }
}

TEST(Utf8, EveryBeginningIsTold) {
  std::string text;
  for (uint32_t a = 0; a < 256; ++a) {
    text = {static_cast<char>(a)};
    expect_step(text);
    for (uint32_t b = 0; b < 256; ++b) {
      text = {static_cast<char>(a), static_cast<char>(b)};
      expect_step(text);
      if (a < 0xC0) continue;  // more bytes say nothing new
      for (uint32_t c = 0; c < 256; ++c) {
        text = {static_cast<char>(a), static_cast<char>(b), static_cast<char>(c)};
        expect_step(text);
        if (a < 0xEF) continue;
        for (const uint32_t d : {0x00, 0x41, 0x7F, 0x80, 0x9F, 0xA0, 0xBF, 0xC0, 0xC2, 0xFF}) {
          expect_step(text + static_cast<char>(d));
        }
      }
    }
  }
}

// What Python's bytes.decode(errors="replace") gives; R stands for U+FFFD.
TEST(Utf8, RepairsAsPythonDoes) {
  const auto repaired = [](std::string_view text) {
    std::string result = utf8_repaired(text);
    for (size_t i = result.find(kReplacement); i != std::string::npos; i = result.find(kReplacement)) {
      result.replace(i, kReplacement.size(), "R");
    }
    return result;
  };
  EXPECT_EQ(repaired(""), "");
  EXPECT_EQ(repaired("plain"), "plain");
  EXPECT_EQ(repaired("a\xC3"), "aR");
  EXPECT_EQ(repaired("a\xC3"
                     "b"),
            "aRb");
  EXPECT_EQ(repaired("\xC0\xAF"), "RR");            // overlong
  EXPECT_EQ(repaired("\xE0\x80\xAF"), "RRR");       // overlong
  EXPECT_EQ(repaired("\xF0\x8F\xBF\xBF"), "RRRR");  // overlong
  EXPECT_EQ(repaired("\xED\xA0\x80"), "RRR");       // a surrogate
  EXPECT_EQ(repaired("\xF4\x90\x80\x80"), "RRRR");  // beyond U+10FFFF
  EXPECT_EQ(repaired("\xF5\x80\x80\x80"), "RRRR");
  EXPECT_EQ(repaired("\xE2\x82"), "R");  // cut: one for the whole beginning
  EXPECT_EQ(repaired("\xF0\x9F\x98"), "R");
  EXPECT_EQ(repaired("\xF0\x9F\x98x"), "Rx");
  EXPECT_EQ(repaired("\xF0\x9F\x98\xF0\x9F\x98\x80"), "R\xF0\x9F\x98\x80");
  EXPECT_EQ(repaired("\x80\xBF"), "RR");
  EXPECT_EQ(repaired("\xFE\xFF"), "RR");
  EXPECT_EQ(repaired("\xE2\x82\xAC\xE2\x82"), "\xE2\x82\xACR");
}

TEST(Utf8, TellsWhereTheFirstErrorIs) {
  EXPECT_EQ(utf8_error(""), std::string_view::npos);
  EXPECT_EQ(utf8_error("\xE2\x82\xAC"
                       "a\xF0\x9F\x98\x80"),
            std::string_view::npos);
  EXPECT_EQ(utf8_error("\xE2\x82\xAC"
                       "ab\xFFzz\xFF"),
            5u);
  EXPECT_EQ(utf8_error("ab\xF0\x9F\x98"), 2u);
}

}  // namespace
}  // namespace espalier
