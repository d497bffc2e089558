// A byte-level tokenizer without merges.
#pragma once

#include <memory>
#include <string>

#include "tokenizers/tokenizer.h"

namespace espalier::testing {

// Every byte is a token of its own.
inline std::unique_ptr<Tokenizer> byte_tokenizer() {
  TokenizerData data{.model = "bpe", .pre_tokenizer = "gpt2"};
  int next = 0;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    const int code = printable ? byte : 256 + next++;
    std::string piece;
    if (code < 128) {
      piece += static_cast<char>(code);
    } else {
      piece += static_cast<char>(0xC0 | (code >> 6));
      piece += static_cast<char>(0x80 | (code & 63));
    }
    data.pieces.push_back(piece);
  }
  return make_tokenizer(data);
}

}  // namespace espalier::testing
