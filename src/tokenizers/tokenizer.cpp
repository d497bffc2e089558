#include "tokenizers/tokenizer.h"

#include "core/tokenizer_data.h"
#include "core/utf8.h"
#include "tokenizers/split_tokenizer.h"

namespace espalier {
namespace {

struct Algorithm {
  std::string_view name;
  std::unique_ptr<Tokenizer> (*make)(const TokenizerData& data);
};
constexpr Algorithm kAlgorithms[] = {
    {"bpe", make_byte_bpe},
    {"wordpiece", make_word_piece},
    {"sentencepiece-bpe", make_sentence_piece},
    {"unigram", make_sentence_piece},
};

}  // namespace

std::unique_ptr<Tokenizer> make_tokenizer(const TokenizerData& data) {
  if (data.pieces.empty()) throw InvalidArgument(error_text("tokenizer", "a model with a tokenizer", "none"));
  std::string known;
  for (const Algorithm& algorithm : kAlgorithms) {
    if (algorithm.name == data.model) return algorithm.make(data);
    known += (known.empty() ? "" : ", ") + std::string(algorithm.name);
  }
  throw NotSupported(error_text("tokenizer", known, "'" + data.model + "'"));
}

std::string StreamDecoder::push(int32_t id) {
  if (tokenizer_.is_special(id)) return "";
  std::string_view bytes = tokenizer_.bytes(id);
  if (drop_space_ && bytes.starts_with(' ')) bytes.remove_prefix(1);
  drop_space_ = false;
  pending_ += bytes;
  size_t whole = 0;
  while (whole < pending_.size()) {
    const Utf8Step step = utf8_step(std::string_view(pending_).substr(whole, 4));
    if (step.unfinished) break;
    whole += step.bytes;
  }
  const std::string text = utf8_repaired(std::string_view(pending_).substr(0, whole));
  pending_.erase(0, whole);
  return text;
}

std::string StreamDecoder::finish() {
  const std::string text = utf8_repaired(pending_);
  pending_.clear();
  return text;
}

}  // namespace espalier
