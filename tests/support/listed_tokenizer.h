// A tokenizer that is a list: each id stands for the bytes given for it.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "tokenizers/tokenizer.h"

namespace espalier::testing {

class ListedTokenizer : public Tokenizer {
 public:
  // Ids in `special` are special tokens. With `prefix_space`, a text's first piece begins with a space of no meaning.
  explicit ListedTokenizer(std::vector<std::string> pieces, std::vector<int32_t> special = {},
                           bool prefix_space = false)
      : pieces_(std::move(pieces)), special_(std::move(special)), prefix_space_(prefix_space) {}

  using Tokenizer::encode;
  std::vector<int32_t> encode(std::span<const Part>, bool) const override {
    throw NotSupported("a list of pieces encodes nothing");
  }
  std::string decode(std::span<const int32_t> ids, bool keep_special) const override {
    std::string text;
    for (const int32_t id : ids) {
      if (keep_special || !is_special(id)) text += bytes(id);
    }
    return text;
  }
  std::string_view bytes(int32_t id) const override { return pieces_.at(static_cast<size_t>(id)); }
  int64_t vocab_size() const override { return static_cast<int64_t>(pieces_.size()); }
  bool has_prefix_space() const override { return prefix_space_; }
  bool is_special(int32_t id) const override {
    for (const int32_t own : special_) {
      if (own == id) return true;
    }
    return false;
  }
  int32_t special_id(std::string_view) const override { return -1; }

 private:
  std::vector<std::string> pieces_;
  std::vector<int32_t> special_;
  bool prefix_space_;
};

}  // namespace espalier::testing
