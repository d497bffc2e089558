// What all tokenizers share: special tokens are found in the text first, what lies between goes to the algorithm.
#pragma once

#include <string>
#include <vector>

#include "core/tokenizer_data.h"
#include "tokenizers/tokenizer.h"

namespace espalier {

class SplitTokenizer : public Tokenizer {
 public:
  using Tokenizer::encode;
  std::vector<int32_t> encode(std::span<const Part> parts, bool add_special) const override;
  std::string decode(std::span<const int32_t> ids, bool keep_special) const override;
  std::string_view bytes(int32_t id) const override;
  int64_t vocab_size() const override { return static_cast<int64_t>(data_.pieces.size()); }
  bool is_special(int32_t id) const override {
    return id >= 0 && static_cast<size_t>(id) < control_.size() && control_[static_cast<size_t>(id)];
  }
  int32_t special_id(std::string_view text) const override;

 protected:
  static constexpr int32_t kNone = -1;

  // Whether it is matched whole, before the algorithm sees the text: special tokens where a part asks for them, others
  // always.
  bool is_added(int32_t id) const { return added_[static_cast<size_t>(id)]; }

  // Throws CorruptFile for special ids outside the vocabulary.
  explicit SplitTokenizer(const TokenizerData& data);

  // Appends the ids of a text without special tokens; valid UTF-8, may be empty. `first`: no token of the text stands
  // before it.
  virtual void encode_plain(std::string_view text, bool first, std::vector<int32_t>& ids) const = 0;

  TokenizerData data_;
  std::vector<std::string> bytes_;  // what each id stands for in a text; the constructor sets those of special tokens

 private:
  int32_t added_at(std::string_view text, bool special) const;

  std::vector<bool> added_, control_;
  std::vector<int32_t> added_by_length_;
  bool always_ = false;  // there are added tokens that are no special ones
};

std::unique_ptr<Tokenizer> make_byte_bpe(const TokenizerData& data);
std::unique_ptr<Tokenizer> make_word_piece(const TokenizerData& data);
std::unique_ptr<Tokenizer> make_sentence_piece(const TokenizerData& data);

}  // namespace espalier
