// Memory for a model's weights, in large pages where the system gives them: a step reads all of it, and with small
// pages it would look up an address for every 4 KiB and start fetching anew at every border.
#pragma once

#include <cstddef>
#include <memory>

namespace espalier {

// Cuts blocks from large chunks. Not thread-safe.
class WeightMemory {
 public:
  // 64-byte aligned, uninitialised. The chunk lives as long as one of its blocks does.
  std::shared_ptr<std::byte> allocate(size_t bytes);

 private:
  std::shared_ptr<std::byte> chunk_;
  size_t size_ = 0, used_ = 0;
};

}  // namespace espalier
