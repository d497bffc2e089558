// The merges of byte-pair encoding: of all neighbouring pairs the one of lowest rank first, leftmost first.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

namespace espalier {

class BpeMerges {
 public:
  // Pieces `left` and `right` become `result`; a pair's first rank counts.
  void add(int32_t left, int32_t right, int32_t rank, int32_t result) {
    merges_.emplace(key(left, right), Merge{rank, result});
  }

  // Merges until no pair is left: a heap of candidates over a linked list, O(n log n) also for a word of a million
  // letters. Ids below 0 never merge.
  void apply(std::vector<int32_t>& ids) const;

 private:
  struct Merge {
    int32_t rank, result;
  };
  static uint64_t key(int32_t left, int32_t right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }

  std::unordered_map<uint64_t, Merge> merges_;
};

}  // namespace espalier
