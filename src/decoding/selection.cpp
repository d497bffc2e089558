#include "decoding/selection.h"

#include <algorithm>
#include <limits>

namespace espalier {
namespace {

constexpr float kLowest = -std::numeric_limits<float>::infinity();
constexpr int64_t kLanes = 16;

// Blocks are compared by their maxima first, so most numbers are looked at once, side by side.
constexpr int64_t kLargeBlock = 64, kSmallBlock = 16;

void sort_greatest(const float* x, int64_t count, std::vector<int32_t>& ids) {
  const auto before = [x](int32_t a, int32_t b) { return x[a] != x[b] ? x[a] > x[b] : a < b; };
  if (count < static_cast<int64_t>(ids.size())) {
    std::nth_element(ids.begin(), ids.begin() + count, ids.end(), before);
    ids.resize(static_cast<size_t>(count));
  }
  std::sort(ids.begin(), ids.end(), before);
}

}  // namespace

float greatest(const float* x, int64_t n) {
  float lanes[kLanes];
  std::fill_n(lanes, kLanes, kLowest);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) lanes[lane] = x[i + lane] > lanes[lane] ? x[i + lane] : lanes[lane];
  }
  for (; i < n; ++i) lanes[0] = x[i] > lanes[0] ? x[i] : lanes[0];
  return *std::max_element(lanes, lanes + kLanes);
}

void select_greatest(const float* x, int64_t n, int64_t count, std::vector<int32_t>& ids) {
  ids.clear();
  count = std::min(count, n);
  if (count <= 0) return;
  const int64_t block = count * 4 <= n / kLargeBlock ? kLargeBlock : kSmallBlock;
  const int64_t blocks = (n + block - 1) / block;
  // The count-th greatest block maximum: at least `count` numbers reach it, so nothing below it is selected.
  float threshold = kLowest;
  std::vector<float> maxima;
  if (count < blocks) {
    maxima.resize(static_cast<size_t>(blocks));
    for (int64_t b = 0; b < blocks; ++b) maxima[b] = greatest(x + b * block, std::min(block, n - b * block));
    std::vector<float> ranked = maxima;
    std::nth_element(ranked.begin(), ranked.begin() + (count - 1), ranked.end(), std::greater<>());
    threshold = ranked[static_cast<size_t>(count) - 1];
  }
  for (int64_t b = 0; b < blocks; ++b) {
    if (!maxima.empty() && maxima[b] < threshold) continue;
    for (int64_t i = b * block; i < std::min(n, (b + 1) * block); ++i) {
      if (x[i] >= threshold) ids.push_back(static_cast<int32_t>(i));
    }
  }
  sort_greatest(x, count, ids);
}

}  // namespace espalier
