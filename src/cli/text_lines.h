// Texts as verbs read them: one JSON line each.
#pragma once

#include <iosfwd>
#include <string>
#include <vector>

#include "models/model.h"
#include "tokenizers/tokenizer.h"

namespace espalier {

struct TextLine {
  std::vector<int32_t> tokens, token_types;  // token_types: empty, or as long as tokens
  std::vector<int32_t> source;               // of an encoder-decoder
  std::string where;                         // "FILE:LINE" for errors
};

// {"text": …} or {"tokens": […]}, each with an optional "token_types": […], for an encoder-decoder beside {"source": …}
// or {"source_tokens": […]}. With "special": true names of special tokens ("[MASK]") in texts are those tokens. Empty
// lines are skipped. Throws InvalidArgument naming the line for anything else, for ids outside the vocabulary and for
// more tokens than the model has positions.
std::vector<TextLine> read_text_lines(std::istream& input, const Tokenizer* tokenizer, const Model& model,
                                      const std::string& path);

}  // namespace espalier
