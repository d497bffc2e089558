// `relu`: phi(x) = max(x, 0), d(x) = x + 1e-15, EfficientViT's LiteMLA; no scale on q and k.
#include <algorithm>

#include "attention/shared/additive.h"
#include "attention/shared/plain.h"

namespace espalier {
namespace {

class Relu : public SharedMap {
 public:
  using SharedMap::SharedMap;

 private:
  void map(const Kernels&, const float* x, float* phi) const override {
    for (int64_t i = 0; i < dim_; ++i) phi[i] = std::max(x[i], 0.0f);
  }
};

std::vector<double> plain_relu(const plain::FeatureInput& in) {
  std::vector<double> phi;
  for (int i = 0; i < in.dim(); ++i) phi.push_back(std::max(double{in.x()[i]}, 0.0));
  return phi;
}

}  // namespace

const AttentionCard& relu_card() {
  static const AttentionCard card{.name = "relu",
                                  .summary = "a sum over all rows, features max(x, 0), over its weight",
                                  .paper = "Cai et al. 2023, arXiv 2205.14756",
                                  .samples = {"relu"},
                                  .in_models = {"relu"},
                                  .additive = {.form =
                                                   [](const AttentionOptions&, const AttentionShape& shape) {
                                                     return AdditiveForm{.map = std::make_unique<Relu>(shape.dim_k),
                                                                         .denominator = {Denominator::kPlus, 1e-15f}};
                                                   },
                                               .features = plain_relu,
                                               .denominator = [](double sum) { return sum + 1e-15; }}};
  return card;
}

}  // namespace espalier
