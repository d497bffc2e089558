// What a mechanism's parameters are before any training.
#pragma once

#include <vector>

#include "attention/operator.h"

namespace espalier {

// The values of a layer's parameter, row-major. Random ones depend on the name and the layer alone.
std::vector<float> initial_values(const ParameterInfo& parameter, int64_t layer);

}  // namespace espalier
