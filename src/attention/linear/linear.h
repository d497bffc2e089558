// elu(x) + 1, the feature map of `linear`, for others too.
#pragma once

#include <memory>
#include <vector>

#include "attention/shared/additive.h"

namespace espalier {

std::unique_ptr<FeatureMap> make_elu_plus_one(int64_t dim);
namespace plain {
std::vector<double> elu_plus_one(const FeatureInput& in);
}

}  // namespace espalier
