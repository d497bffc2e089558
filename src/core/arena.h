// Bump memory for one step: allocate during the step, release all at once, reuse in the next.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "core/aligned.h"

namespace espalier {

// Not thread-safe. After the first steps of a kind it allocates nothing.
class Arena {
 public:
  struct Mark {
    size_t block, used;
  };

  // 64-byte aligned, uninitialised; valid until release(mark) or reset().
  float* floats(int64_t count) {
    const size_t rounded = (static_cast<size_t>(count) + 15) / 16 * 16;
    while (block_ < blocks_.size() && used_ + rounded > blocks_[block_].size()) {
      ++block_;
      used_ = 0;
    }
    if (block_ == blocks_.size()) blocks_.emplace_back(std::max(rounded, kBlockFloats));
    float* memory = blocks_[block_].data() + used_;
    used_ += rounded;
    return memory;
  }

  Mark mark() const { return {block_, used_}; }
  void release(Mark mark) {
    block_ = mark.block;
    used_ = mark.used;
  }
  void reset() { release({0, 0}); }

  int64_t bytes() const {
    int64_t total = 0;
    for (const auto& block : blocks_) total += static_cast<int64_t>(block.size() * sizeof(float));
    return total;
  }

 private:
  static constexpr size_t kBlockFloats = 1 << 18;
  std::vector<AlignedBuffer<float>> blocks_;
  size_t block_ = 0, used_ = 0;
};

}  // namespace espalier
