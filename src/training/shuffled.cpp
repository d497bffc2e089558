#include "training/shuffled.h"

#include <utility>

#include "core/rng.h"

namespace espalier {

std::vector<int64_t> shuffled(const std::vector<int64_t>& all, uint64_t seed, int64_t first, int64_t count) {
  const auto n = static_cast<int64_t>(all.size());
  std::vector<int64_t> chosen, order;
  int64_t epoch = -1;
  for (int64_t i = first; i < first + count; ++i) {
    if (i / n != epoch) {
      epoch = i / n;
      order = all;
      Random random(seed, static_cast<uint64_t>(epoch) + 1);
      for (size_t j = order.size(); j > 1; --j) {
        std::swap(order[j - 1], order[static_cast<size_t>(random.below(static_cast<int64_t>(j)))]);
      }
    }
    chosen.push_back(order[static_cast<size_t>(i % n)]);
  }
  return chosen;
}

}  // namespace espalier
