// A linearization small enough for a unit test: a tiny random model, a tokenizer of bytes, a text on disk.
#pragma once

#include <filesystem>
#include <string>

#include "checkpoint/model_files.h"
#include "tokenizers/tokenizer.h"
#include "training/linearize.h"

namespace espalier::testing {

// One id per byte, modulo the vocabulary.
class ByteTokenizer : public Tokenizer {
 public:
  explicit ByteTokenizer(int64_t vocab_size) : vocab_size_(vocab_size) {}
  using Tokenizer::encode;
  std::vector<int32_t> encode(std::span<const Part> parts, bool add_special) const override;
  std::string decode(std::span<const int32_t> ids, bool keep_special) const override;
  std::string_view bytes(int32_t id) const override;
  int64_t vocab_size() const override { return vocab_size_; }
  bool is_special(int32_t) const override { return false; }
  int32_t special_id(std::string_view) const override { return -1; }

 private:
  int64_t vocab_size_;
};

// A folder of its own, empty at first, removed at the end.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// A text with structure that can be learned, written to `path`.
void write_text(const std::filesystem::path& path, int64_t bytes, uint64_t seed);

// Few tokens, two rows a step, a checkpoint after every step.
Recipe tiny_recipe(const std::string& attention);

}  // namespace espalier::testing
