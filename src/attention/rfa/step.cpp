#include "attention/rfa/rfa.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "attention/shared/additive.h"
#include "attention/shared/plain.h"

namespace espalier {
namespace {

class Rfa : public FeatureMap {
 public:
  Rfa(const AttentionShape& shape, int64_t directions) : shape_(shape), directions_(directions) {}
  int64_t features() const override { return 2 * directions_; }
  std::vector<ParameterInfo> parameters() const override {
    return {{.name = "rfa.weight",
             .shape = {shape_.heads_kv, directions_, shape_.dim_k},
             .init = Init::kNormal,
             .feature = true,
             .trained = false},
            {.name = "rfa.sigma", .shape = {shape_.heads_kv, shape_.dim_k}, .init = Init::kOne, .feature = true}};
  }
  void load(const std::vector<std::vector<float>>& values) override {
    const int64_t dim = shape_.dim_k;
    weight_.resize(values[0].size());
    for (int64_t head = 0; head < shape_.heads_kv; ++head) {
      for (int64_t p = 0; p < directions_; ++p) {
        for (int64_t d = 0; d < dim; ++d) {
          weight_[static_cast<size_t>((head * dim + d) * directions_ + p)] =
              values[0][static_cast<size_t>((head * directions_ + p) * dim + d)] *
              values[1][static_cast<size_t>(head * dim + d)];
        }
      }
    }
  }
  void queries(const Kernels& kernels, const MapRows& rows, int head) const override {
    map(kernels, rows, head / shape_.heads_per_kv());
  }
  void keys(const Kernels& kernels, const MapRows& rows, int kv_head) const override { map(kernels, rows, kv_head); }

 private:
  void map(const Kernels& kernels, const MapRows& rows, int kv_head) const {
    const int64_t dim = shape_.dim_k;
    apply_matrix(kernels, rows, weight_.data() + kv_head * directions_ * dim, dim, directions_);
    for (int64_t row = 0; row < rows.count; ++row) {
      const float* x = rows.x_row(row);
      const float inverse = 1.0f / (std::sqrt(kernels.dot(x, x, dim)) + kRfaNorm);
      float* phi = rows.phi_row(row);
      kernels.sin_cos(phi, inverse, kRfaScale, directions_, phi, phi + directions_);
    }
  }
  AttentionShape shape_;
  int64_t directions_;         // P
  std::vector<float> weight_;  // [Hk][D][P] (R sigma)^T
};

int64_t directions_of(const AttentionOptions& options, const AttentionShape& shape) {
  return options.integer_or("features", shape.dim_k);
}

std::vector<double> plain_rfa(const plain::FeatureInput& in) {
  const int64_t directions = directions_of(in.options, in.head.shape);
  const int kv_head = in.head.kv_head();
  std::vector<double> scaled;
  for (int i = 0; i < in.dim(); ++i) {
    const double sigma = in.parameters[1][static_cast<size_t>(kv_head * in.dim() + i)];
    scaled.push_back(sigma * in.x()[i] / (in.length() + kRfaNorm));
  }
  const auto u = plain::product(in.parameters[0].data() + kv_head * directions * in.dim(), scaled, directions);
  std::vector<double> phi;
  for (const double x : u) phi.push_back(kRfaScale * std::sin(x));
  for (const double x : u) phi.push_back(kRfaScale * std::cos(x));
  return phi;
}

}  // namespace

const AttentionCard& rfa_card() {
  static const AttentionCard card{
      .name = "rfa",
      .summary = "a sum over all rows, random features sin u and cos u that estimate a Gaussian kernel",
      .paper = "Peng et al. 2021, arXiv 2103.02143",
      .options = {integer_option("features", "Dk", 1, 4096, "random projections, two features each")},
      .samples = {"rfa", "rfa(features=5)"},
      .in_models = {"rfa(features=12)"},
      .additive = {.form =
                       [](const AttentionOptions& options, const AttentionShape& shape) {
                         return AdditiveForm{.map = std::make_unique<Rfa>(shape, directions_of(options, shape)),
                                             .denominator = {Denominator::kAtLeast, 1.0f}};
                       },
                   .features = plain_rfa,
                   .denominator = [](double sum) { return std::max(sum, 1.0); }}};
  return card;
}

}  // namespace espalier
