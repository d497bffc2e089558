// `linear`: phi(x) = elu(x) + 1, d(x) = x + 1e-6; no scale on q and k.
#include <algorithm>
#include <cmath>

#include "attention/linear/linear.h"
#include "attention/shared/plain.h"

namespace espalier {
namespace {

class EluPlusOne : public SharedMap {
 public:
  using SharedMap::SharedMap;

 private:
  void map(const Kernels& kernels, const float* x, float* phi) const override {
    kernels.exp_sum(x, 0.0f, dim_, phi);
    // x + 1 above 0, e^x below: one of the terms is exact.
    for (int64_t i = 0; i < dim_; ++i) phi[i] = std::max(x[i], 0.0f) + std::min(phi[i], 1.0f);
  }
};

}  // namespace

std::unique_ptr<FeatureMap> make_elu_plus_one(int64_t dim) {
  return std::make_unique<EluPlusOne>(dim);
}

std::vector<double> plain::elu_plus_one(const FeatureInput& in) {
  std::vector<double> phi;
  for (int i = 0; i < in.dim(); ++i) phi.push_back(in.x()[i] > 0 ? in.x()[i] + 1.0 : std::exp(double{in.x()[i]}));
  return phi;
}

const AttentionCard& linear_card() {
  static const AttentionCard card{
      .name = "linear",
      .summary = "a sum over all rows, features elu(x) + 1, over its weight",
      .paper = "Katharopoulos et al. 2020, arXiv 2006.16236",
      .samples = {"linear"},
      .in_models = {"linear"},
      .additive = {
          .form =
              [](const AttentionOptions&, const AttentionShape& shape) {
                return AdditiveForm{.map = make_elu_plus_one(shape.dim_k), .denominator = {Denominator::kPlus, 1e-6f}};
              },
          .features = plain::elu_plus_one,
          .denominator = [](double sum) { return sum + 1e-6; }}};
  return card;
}

}  // namespace espalier
