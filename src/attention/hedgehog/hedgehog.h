// `hedgehog(features=Dk)`: an additive mechanism (attention/shared/additive.h) with learned features (Zhang et al.
// 2024, arXiv 2402.04347):
//
//   phi(x) = max([softmax(x W), softmax(-x W)], 1e-12), softmax over the F features, d(x) = x + 1e-12
//
// Parameters: feature_q.weight [H, Dk, F], feature_k.weight [Hk, Dk, F], unit matrices at first.
#pragma once

#include <vector>

#include "attention/shared/additive.h"

namespace espalier {

// The least value of a feature.
inline constexpr float kMinFeature = 1e-12f;

struct HedgehogWeight {
  const float* weight;  // [dim][features]
  int64_t dim, features;
};
// phi [count][2 * features]
void hedgehog(const Kernels& kernels, const MapRows& rows, const HedgehogWeight& weight);

namespace plain {
// phi(x); weights [heads, dim, F]
std::vector<double> hedgehog(const float* x, const std::vector<float>& weights, int head, int heads, int dim);
}  // namespace plain

}  // namespace espalier
