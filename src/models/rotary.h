// Rotary embedding (Su et al. 2021, arXiv 2104.09864): the angle that a position adds to each pair of a head.
#pragma once

#include <vector>

#include "checkpoint/model_files.h"

namespace espalier {

// [rotary_dim / 2] radians per position, stretched as config.rope_scaling says.
std::vector<double> rotary_frequencies(const ModelConfig& config);

// [d / 2] radians per position of sinusoids (Vaswani et al. 2017).
std::vector<double> sinusoid_frequencies(int64_t d);

}  // namespace espalier
