#include "models/relative_bias.h"

#include <algorithm>
#include <cmath>

namespace espalier {

int64_t relative_bucket(int64_t distance, bool bidirectional, int64_t buckets, int64_t reach) {
  int64_t first = 0;
  if (bidirectional) {
    buckets /= 2;
    if (distance > 0) first = buckets;
    distance = std::abs(distance);
  } else {
    distance = std::max<int64_t>(-distance, 0);
  }
  const int64_t exact = buckets / 2;
  if (distance < exact) return first + distance;
  // In single precision, as the original: whole results of the logarithm lie on borders.
  const float octaves = std::log(static_cast<float>(distance) / static_cast<float>(exact)) /
                        static_cast<float>(std::log(static_cast<double>(reach) / static_cast<double>(exact)));
  const int64_t wide = exact + static_cast<int64_t>(octaves * static_cast<float>(buckets - exact));
  return first + std::min(wide, buckets - 1);
}

std::vector<float> spread_relative_bias(const std::vector<float>& values, const ModelConfig& config) {
  const int64_t heads = config.num_attention_heads, reach = config.relative_bias_reach;
  std::vector<float> spread;
  for (int64_t head = 0; head < heads; ++head) {
    for (int64_t distance = -reach; distance <= reach; ++distance) {
      const int64_t bucket = relative_bucket(distance, config.bidirectional, config.relative_bias_buckets, reach);
      spread.push_back(values[static_cast<size_t>(bucket * heads + head)] *
                       static_cast<float>(config.relative_bias_scale));
    }
  }
  return spread;
}

}  // namespace espalier
