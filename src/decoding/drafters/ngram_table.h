// A static table of what follows the last one, two or three tokens (docs/formats/ngram.md).
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "decoding/drafters/drafter.h"
#include "tokenizers/tokenizer.h"

namespace espalier {

// What a table is bound to: SHA-256 (hex) over the bytes of all ids in order.
std::string vocabulary_hash(const Tokenizer& tokenizer);

// Immutable; shareable between threads.
class NgramTable {
 public:
  static constexpr int kOrders = 3;
  static constexpr int64_t kMaxVocabulary = (int64_t{1} << 21) - 2;
  static constexpr int kMaxContinuations = 8;

  struct Continuation {
    int32_t token;
    uint8_t share;  // probability in 255ths
  };

  // The table that a file's bytes hold. Throws CorruptFile naming `where` and the field.
  static NgramTable parse(std::string_view bytes, const std::string& where);
  // Also throws InvalidArgument for no such file, or a table of another vocabulary.
  static NgramTable load(const std::filesystem::path& path, const Tokenizer& tokenizer);
  // The bytes of a file.
  std::string serialize() const;
  void save(const std::filesystem::path& path) const;

  int64_t vocab_size() const { return vocab_size_; }
  const std::string& vocabulary() const { return vocabulary_; }
  int64_t contexts(int order) const;  // 1 <= order <= kOrders

  // What follows the `order` last tokens, likeliest first; `context` is packed by context_key(). Empty if unknown.
  std::span<const Continuation> find(uint64_t context) const;
  // Up to three tokens, oldest first, in one number: 21 bits each.
  static uint64_t context_key(std::span<const int32_t> tokens);
  static uint64_t extended(uint64_t context, int32_t token);  // the last three tokens with one more
  static uint64_t shortened(uint64_t context, int order);     // the last `order` tokens

 private:
  friend class NgramTableBuilder;
  struct Entry {
    uint64_t context;
    uint32_t first, count;  // of continuations_
  };

  NgramTable(int64_t vocab_size, std::string vocabulary)
      : vocab_size_(vocab_size), vocabulary_(std::move(vocabulary)) {}
  // Entries arrive by order, then context, ascending.
  void add(uint64_t context, std::span<const Continuation> continuations);
  void index();

  int64_t vocab_size_ = 0;
  std::string vocabulary_;
  std::vector<Entry> entries_;
  std::vector<Continuation> continuations_;
  std::vector<uint32_t> slots_;  // open addressing: index of an entry + 1, 0: free
};

// Counts n-grams of token streams.
class NgramTableBuilder {
 public:
  // `vocabulary` is vocabulary_hash(). Throws NotSupported for a vocabulary beyond kMaxVocabulary.
  NgramTableBuilder(int64_t vocab_size, std::string vocabulary);

  // Counts what follows what in `tokens`, for followers from index `first` on: a prompt gives contexts alone.
  void add(std::span<const int32_t> tokens, size_t first);
  // The table that says most in at most `max_bytes` of file: contexts are kept by how often they occurred, short ones
  // first among equals; a context seen once goes if the next shorter one says the same.
  NgramTable build(size_t max_bytes) const;

 private:
  struct Event {
    uint64_t context;
    int32_t token;
  };
  int64_t vocab_size_;
  std::string vocabulary_;
  std::vector<Event> events_;
};

// Drafts from a table: the orders are mixed, the longest known context first, each passing on the probability that it
// leaves unexplained.
class NgramDrafter : public Drafter {
 public:
  // `table` must outlive this.
  explicit NgramDrafter(const NgramTable& table) : table_(table) {}

  void reset() override { context_ = 0; }
  void observe(int32_t token) override { context_ = NgramTable::extended(context_, token); }
  DraftCursor root() override { return {static_cast<int64_t>(context_), 0}; }
  void children(DraftCursor cursor, double reach, std::vector<DraftChild>& out) override;
  DraftCursor advance(DraftCursor cursor, int32_t token) override {
    return {static_cast<int64_t>(NgramTable::extended(static_cast<uint64_t>(cursor.value), token)), 0};
  }

 private:
  const NgramTable& table_;
  uint64_t context_ = 0;
};

}  // namespace espalier
