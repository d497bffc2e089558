// Text files as rows of tokens: packed, shuffled by a seed, some held out.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <string>
#include <vector>

#include "tokenizers/tokenizer.h"

namespace espalier {

class TextRows {
 public:
  // One stream of ids, `end_id` (if not -1) between files, is cut into rows of `context`, `row_begin` and `row_end` (if
  // not -1) around each; `held_out` rows, spread evenly, are kept apart. Throws InvalidArgument when there is not a row
  // to train on.
  struct Options {
    int64_t context = 1024;
    int32_t end_id = -1, row_begin = -1, row_end = -1;
    uint64_t seed = 1;
  };
  TextRows(const Tokenizer& tokenizer, const std::vector<std::filesystem::path>& files, int64_t held_out,
           const Options& options);

  int64_t training_rows() const { return static_cast<int64_t>(order_.size()); }
  // Rows [first, first + count) of an endless stream that shuffles anew in every epoch: [count, context] int64.
  at::Tensor rows(int64_t first, int64_t count) const;
  // Names the tokens and how they are cut: runs over other data have another one.
  std::string fingerprint() const;
  at::Tensor held_out() const;  // [held_out, context]
  // At most `count` training rows, spread evenly: [<= count, context].
  at::Tensor spread(int64_t count) const;

 private:
  at::Tensor gather(const std::vector<int64_t>& rows) const;

  int64_t context_, taken_;  // tokens of a row; of them from the text
  int32_t row_begin_, row_end_;
  uint64_t seed_;
  std::vector<int32_t> tokens_;
  std::vector<int64_t> order_, held_out_;  // row numbers
};

}  // namespace espalier
