#include "core/base64.h"

#include <array>
#include <cstdint>

#include "core/error.h"

namespace espalier {
namespace {

constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr uint8_t kNone = 255;

constexpr std::array<uint8_t, 256> kValues = [] {
  std::array<uint8_t, 256> values{};
  values.fill(kNone);
  for (size_t i = 0; i < kAlphabet.size(); ++i)
    values[static_cast<unsigned char>(kAlphabet[i])] = static_cast<uint8_t>(i);
  return values;
}();

}  // namespace

std::string base64_decoded(std::string_view text, std::string_view where) {
  const size_t padding = text.ends_with("==") ? 2 : text.ends_with("=") ? 1 : 0;
  bool valid = text.size() % 4 == 0;
  std::string bytes;
  bytes.reserve(text.size() / 4 * 3);
  uint32_t bits = 0;
  for (size_t i = 0; valid && i < text.size(); ++i) {
    const bool padded = i + padding >= text.size();
    const uint8_t value = padded ? uint8_t{0} : kValues[static_cast<unsigned char>(text[i])];
    valid = value != kNone;
    bits = bits << 6 | value;
    if (i % 4 == 3) {
      for (const int shift : {16, 8, 0}) bytes += static_cast<char>(bits >> shift);
    }
  }
  if (!valid) throw CorruptFile(error_text(where, "base64", std::string(text.substr(0, 20))));
  bytes.resize(bytes.size() - padding);
  return bytes;
}

}  // namespace espalier
