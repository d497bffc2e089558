// Text <-> token ids: one interface, an algorithm for each file (tokenizer.cpp lists them).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"

namespace espalier {

struct TokenizerData;

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // A stretch of text. Only where `parse_special` is set does "<|im_start|>" in it become that token; words may reach
  // over from one part to the next.
  struct Part {
    std::string_view text;
    bool parse_special = false;
  };
  // With `add_special`, what the checkpoint puts around a text stands before and after it (<s>; [CLS] … [SEP]; … </s>).
  // Added tokens that are not special are matched in any part. Throws
  // InvalidArgument when a part is not valid UTF-8 (with the byte offset).
  virtual std::vector<int32_t> encode(std::span<const Part> parts, bool add_special) const = 0;
  std::vector<int32_t> encode(std::string_view text) const {
    const Part part{text};
    return encode({&part, 1}, true);
  }
  // The text of the ids; special tokens as their text if `keep_special`, else nothing. WordPiece joins words by spaces
  // and takes them away before punctuation; elsewhere these are the bytes of the ids. Throws InvalidArgument for an id
  // outside [0, vocab_size()).
  virtual std::string decode(std::span<const int32_t> ids, bool keep_special = false) const = 0;
  // The raw bytes that one id stands for (may be part of a character).
  virtual std::string_view bytes(int32_t id) const = 0;
  virtual int64_t vocab_size() const = 0;
  // Whether the space that a text's first piece begins with is the algorithm's, not the text's.
  virtual bool has_prefix_space() const { return false; }
  virtual bool is_special(int32_t id) const = 0;
  // The id of a special token by its text, -1 when there is none.
  virtual int32_t special_id(std::string_view text) const = 0;
};

// Throws NotSupported naming the model or pre-tokenizer; CorruptFile for an inconsistent vocabulary.
std::unique_ptr<Tokenizer> make_tokenizer(const TokenizerData& data);

// Turns a stream of ids into text that is always whole characters: bytes of an unfinished UTF-8
// character wait for the next id; finish() gives what is left, invalid bytes as U+FFFD.
class StreamDecoder {
 public:
  // `at_start`: the ids begin a text, and do not go on with one.
  explicit StreamDecoder(const Tokenizer& tokenizer, bool at_start = false)
      : tokenizer_(tokenizer), drop_space_(at_start && tokenizer.has_prefix_space()) {}
  // The text that became complete with this id (may be empty). Special tokens give nothing.
  std::string push(int32_t id);
  std::string finish();

 private:
  const Tokenizer& tokenizer_;
  bool drop_space_;
  std::string pending_;
};

}  // namespace espalier
