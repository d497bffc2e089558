// Base64 against its definition: every group of the alphabet's kind, every byte string, and nothing else.
#include "core/base64.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/rng.h"

namespace espalier {
namespace {

constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

std::string encoded(std::string_view bytes) {
  std::string text;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const std::string_view group = bytes.substr(i, 3);
    uint32_t bits = 0;
    for (size_t j = 0; j < 3; ++j) {
      bits = bits << 8 | (j < group.size() ? static_cast<unsigned char>(group[j]) : 0u);
    }
    for (size_t j = 0; j < 4; ++j) text += j <= group.size() ? kAlphabet[bits >> (18 - 6 * j) & 63] : '=';
  }
  return text;
}

TEST(Base64, DecodesWhatIsEncodedOfEveryLengthAndByte) {
  EXPECT_EQ(base64_decoded("", "x"), "");
  EXPECT_EQ(base64_decoded("Zg==", "x"), "f");  // RFC 4648, section 10
  EXPECT_EQ(base64_decoded("Zm8=", "x"), "fo");
  EXPECT_EQ(base64_decoded("Zm9v", "x"), "foo");
  EXPECT_EQ(base64_decoded("Zm9vYg==", "x"), "foob");
  EXPECT_EQ(base64_decoded("Zm9vYmE=", "x"), "fooba");
  EXPECT_EQ(base64_decoded("Zm9vYmFy", "x"), "foobar");
  Random random(1);
  for (size_t length = 0; length < 300; ++length) {
    std::string bytes;
    for (size_t i = 0; i < length; ++i) bytes += static_cast<char>(random.below(256));
    ASSERT_EQ(base64_decoded(encoded(bytes), "x"), bytes) << length;
  }
  for (int a = 0; a < 256; ++a) {
    for (int b = 0; b < 256; ++b) {
      const std::string bytes = {static_cast<char>(a), static_cast<char>(b)};
      ASSERT_EQ(base64_decoded(encoded(bytes), "x"), bytes);
    }
  }
}

// A byte that is none of the alphabet's, in every place of a group that is not the only one.
TEST(Base64, RefusesEveryOtherByteInEveryPlace) {
  const std::string good = "Zm9vYmFyZm9v";
  ASSERT_EQ(base64_decoded(good, "x"), "foobarfoo");
  for (int byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(byte);
    if (kAlphabet.find(c) != std::string_view::npos) continue;
    for (size_t place = 0; place < good.size(); ++place) {
      if (c == '=' && place + 1 == good.size()) continue;
      std::string bad = good;
      bad[place] = c;
      EXPECT_THROW(base64_decoded(bad, "x"), CorruptFile) << byte << " at " << place;
    }
    // Whole groups of what a line may begin or end with are none either.
    EXPECT_THROW(base64_decoded(std::string(4, c) + good, "x"), CorruptFile) << byte;
    EXPECT_THROW(base64_decoded(good + std::string(4, c), "x"), CorruptFile) << byte;
    EXPECT_THROW(base64_decoded(std::string(4, c), "x"), CorruptFile) << byte;
  }
}

TEST(Base64, RefusesWhatIsNoWholeGroup) {
  const std::string good = "Zm9vYmFyZm9v";
  for (size_t length = 1; length < good.size(); ++length) {
    if (length % 4 != 0) {
      EXPECT_THROW(base64_decoded(good.substr(0, length), "x"), CorruptFile) << length;
    }
  }
  for (const char* bad : {"=", "==", "===", "====", "Z===", "=Zm9", "Z=9v", "Zm=v", "Zg==Zg==", "Zm8=Zm9v",
                          "Zg= ", "Zg==\n", "\nZg==", "Zm9v\r\n\r\n", "    Zg=="}) {
    EXPECT_THROW(base64_decoded(bad, "x"), CorruptFile) << bad;
  }
  try {
    base64_decoded("####", "tokenizer.json: field");
    FAIL();
  } catch (const CorruptFile& error) {
    EXPECT_NE(std::string(error.what()).find("tokenizer.json: field"), std::string::npos);
  }
}

}  // namespace
}  // namespace espalier
