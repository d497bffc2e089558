// What is done to a text before it is cut into words.
#pragma once

#include <string>
#include <string_view>

#include "core/tokenizer_data.h"

namespace espalier {

// `text` is valid UTF-8, and so is the result. In this order, where asked for: control characters are dropped and
// white space becomes spaces; Chinese characters get spaces around them; the Unicode form; accents are dropped (NFD
// without its marks); letters become lower-case; runs of spaces become one; white space at the ends is dropped.
// Categories are those of the Unicode version that utf8proc knows.
std::string normalized(std::string_view text, const NormalizerData& steps);

// Categories as transformers' BERT tokenizer asks for them.
bool is_white_space(int32_t code);
bool is_punctuation(int32_t code);

// Calls body(code, bytes) for each character of valid UTF-8.
template <class Body>
void each_character(std::string_view text, Body&& body) {
  for (size_t i = 0; i < text.size();) {
    const unsigned char first = static_cast<unsigned char>(text[i]);
    const size_t bytes = first < 0x80 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
    int32_t code = bytes == 1 ? first : first & (0xFF >> (bytes + 1));
    for (size_t b = 1; b < bytes; ++b) code = code << 6 | (text[i + b] & 0x3F);
    body(code, text.substr(i, bytes));
    i += bytes;
  }
}

}  // namespace espalier
