#include "training/text_rows.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "core/error.h"
#include "core/file.h"
#include "core/hash.h"
#include "training/shuffled.h"

namespace espalier {

TextRows::TextRows(const Tokenizer& tokenizer, const std::vector<std::filesystem::path>& files, int64_t held_out,
                   const Options& options)
    : context_(options.context),
      taken_(options.context - (options.row_begin >= 0) - (options.row_end >= 0)),
      row_begin_(options.row_begin),
      row_end_(options.row_end),
      seed_(options.seed) {
  for (const std::filesystem::path& file : files) {
    if (!tokens_.empty() && options.end_id >= 0) tokens_.push_back(options.end_id);
    const std::string text = read_text_file(file);
    const Tokenizer::Part part{.text = text};
    const std::vector<int32_t> ids = tokenizer.encode({&part, 1}, /*add_special=*/row_begin_ < 0);
    tokens_.insert(tokens_.end(), ids.begin(), ids.end());
  }
  const int64_t rows = static_cast<int64_t>(tokens_.size()) / taken_;
  if (rows <= held_out) {
    throw InvalidArgument(
        error_text("--data", "more than " + std::to_string(held_out) + " rows of " + std::to_string(taken_) + " tokens",
                   std::to_string(rows), "a longer text"));
  }
  for (int64_t i = 0; i < held_out; ++i) held_out_.push_back((2 * i + 1) * rows / (2 * held_out));
  for (int64_t row = 0; row < rows; ++row) {
    if (!std::binary_search(held_out_.begin(), held_out_.end(), row)) order_.push_back(row);
  }
}

at::Tensor TextRows::gather(const std::vector<int64_t>& rows) const {
  at::Tensor batch = at::empty({static_cast<int64_t>(rows.size()), context_}, at::kLong);
  int64_t* out = batch.mutable_data_ptr<int64_t>();
  for (const int64_t row : rows) {
    if (row_begin_ >= 0) *out++ = row_begin_;
    out = std::copy_n(tokens_.begin() + row * taken_, taken_, out);
    if (row_end_ >= 0) *out++ = row_end_;
  }
  return batch;
}

at::Tensor TextRows::rows(int64_t first, int64_t count) const {
  return gather(shuffled(order_, seed_, first, count));
}

std::string TextRows::fingerprint() const {
  return sha256(std::as_bytes(std::span(tokens_))).substr(0, 16);
}

at::Tensor TextRows::spread(int64_t count) const {
  count = std::min(count, training_rows());
  std::vector<int64_t> chosen;
  for (int64_t i = 0; i < count; ++i)
    chosen.push_back(order_[static_cast<size_t>((2 * i + 1) * training_rows() / (2 * count))]);
  return gather(chosen);
}

at::Tensor TextRows::held_out() const {
  return gather(held_out_);
}

}  // namespace espalier
