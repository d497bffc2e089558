// Rotary embedding (Su et al. 2021, arXiv 2104.09864): the angle that a position adds to each pair of a head.
#pragma once

#include <vector>

#include "checkpoint/model_files.h"

namespace espalier {

// [head_dim / 2] radians per position, stretched as config.rope_scaling says.
std::vector<double> rotary_frequencies(const ModelConfig& config);

}  // namespace espalier
