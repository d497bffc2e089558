#include "core/weight_memory.h"

#include <cstdlib>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace espalier {
namespace {

constexpr size_t kLine = 64, kLargePage = size_t{2} << 20, kChunk = size_t{64} << 20;

size_t rounded(size_t bytes, size_t unit) {
  return (bytes + unit - 1) / unit * unit;
}

std::shared_ptr<std::byte> new_chunk(size_t bytes) {
  void* memory = std::aligned_alloc(kLargePage, bytes);
  if (!memory) throw std::bad_alloc();
#if defined(__linux__)
  madvise(memory, bytes, MADV_HUGEPAGE);  // a wish: without it all works, slower
#endif
  return {static_cast<std::byte*>(memory), [](std::byte* pointer) { std::free(pointer); }};
}

}  // namespace

std::shared_ptr<std::byte> WeightMemory::allocate(size_t bytes) {
  bytes = rounded(bytes, kLine);
  if (bytes > kChunk / 4) return new_chunk(rounded(bytes, kLargePage));
  if (bytes > size_ - used_) {
    chunk_ = new_chunk(kChunk);
    size_ = kChunk;
    used_ = 0;
  }
  std::shared_ptr<std::byte> block(chunk_, chunk_.get() + used_);
  used_ += bytes;
  return block;
}

}  // namespace espalier
