// T5's relative bias: a learned number per head and bucket of distances (Raffel et al. 2020, section 2.1), spread out
// to one per head and distance.
#pragma once

#include <cstdint>
#include <vector>

#include "checkpoint/model_files.h"

namespace espalier {

// The bucket of a key that stands `distance` after its query (negative: before it): half of the buckets for keys
// after it where `bidirectional`; of the rest half for the nearest distances, half for logarithmically wider ranges up
// to `reach`.
int64_t relative_bucket(int64_t distance, bool bidirectional, int64_t buckets, int64_t reach);

// values [buckets, H] -> [H, 2 reach + 1] of the distances -reach … reach, reach = config.relative_bias_reach, times
// config.relative_bias_scale.
std::vector<float> spread_relative_bias(const std::vector<float>& values, const ModelConfig& config);

}  // namespace espalier
