// `angular`: phi(q).phi(k) = 1/2 + q^.k^ / pi, d(x) = x; x^ = x / max(|x|, 1e-6). The linear angular kernel of
// Castling-ViT, with phi(x) = [sqrt(1/2), x^ / sqrt(pi)]. No scale on q and k.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "attention/shared/additive.h"
#include "attention/shared/min_norm.h"
#include "attention/shared/plain.h"

namespace espalier {
namespace {

class Angular : public SharedMap {
 public:
  using SharedMap::SharedMap;
  int64_t features() const override { return dim_ + 1; }

 private:
  void map(const Kernels& kernels, const float* x, float* phi) const override {
    const float norm = std::max(std::sqrt(kernels.dot(x, x, dim_)), kMinNorm);
    phi[0] = static_cast<float>(std::numbers::sqrt2 / 2);
    kernels.scale(x, static_cast<float>(std::sqrt(std::numbers::inv_pi)) / norm, dim_, phi + 1);
  }
};

std::vector<double> plain_angular(const plain::FeatureInput& in) {
  std::vector<double> phi = {std::sqrt(0.5)};
  const double norm = std::max(in.length(), double{kMinNorm});
  for (int i = 0; i < in.dim(); ++i) phi.push_back(in.x()[i] / norm / std::sqrt(std::numbers::pi));
  return phi;
}

}  // namespace

const AttentionCard& angular_card() {
  static const AttentionCard card{.name = "angular",
                                  .summary = "a sum over all rows, weights 1/2 + cos(q, k) / pi",
                                  .paper = "You et al. 2023, arXiv 2211.10526",
                                  .samples = {"angular"},
                                  .in_models = {"angular"},
                                  // Weights lie in [0.18, 0.82]; the bound serves groups that have seen nothing.
                                  .additive = {.form =
                                                   [](const AttentionOptions&, const AttentionShape& shape) {
                                                     return AdditiveForm{.map = std::make_unique<Angular>(shape.dim_k),
                                                                         .denominator = {Denominator::kAtLeast, 1e-6f}};
                                                   },
                                               .features = plain_angular,
                                               .denominator = [](double sum) { return std::max(sum, 1e-6); }}};
  return card;
}

}  // namespace espalier
