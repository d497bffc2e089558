// A value that copies share until one of them is written.
#pragma once

#include <atomic>
#include <cstdint>
#include <utility>

namespace espalier {

// Copying costs a count. Copies may be read and written by different threads, each by one at a time, as if they were
// values of their own. A moved-from one may only be assigned or destroyed.
template <class T>
class CopyOnWrite {
 public:
  CopyOnWrite() : held_(new Held) {}
  CopyOnWrite(const CopyOnWrite& other) : held_(other.held_) {
    if (held_) held_->owners.fetch_add(1, std::memory_order_relaxed);
  }
  CopyOnWrite(CopyOnWrite&& other) noexcept : held_(std::exchange(other.held_, nullptr)) {}
  CopyOnWrite& operator=(CopyOnWrite other) noexcept {
    std::swap(held_, other.held_);
    return *this;
  }
  // The last owner sees all that the others did before they left.
  ~CopyOnWrite() {
    if (held_ && held_->owners.fetch_sub(1, std::memory_order_acq_rel) == 1) delete held_;
  }

  const T* operator->() const { return &held_->value; }
  const T& operator*() const { return held_->value; }
  // The value, copied first where others share it: the only part that can fail.
  T& write() {
    if (held_->owners.load(std::memory_order_acquire) != 1) {
      CopyOnWrite own(held_->value);
      std::swap(held_, own.held_);
    }
    return held_->value;
  }
  bool shares_with(const CopyOnWrite& other) const { return held_ == other.held_; }

 private:
  struct Held {
    T value{};
    std::atomic<int64_t> owners{1};
  };
  explicit CopyOnWrite(const T& value) : held_(new Held{value}) {}

  Held* held_;
};

}  // namespace espalier
