#include "attention/hedgehog/hedgehog.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "attention/shared/plain.h"

namespace espalier {

void hedgehog(const Kernels& kernels, const MapRows& rows, const HedgehogWeight& w) {
  apply_matrix(kernels, rows, w.weight, w.dim, w.features);
  std::vector<float> sums(static_cast<size_t>(2 * rows.count));  // of each row's halves, then maxima
  for (int64_t row = 0; row < rows.count; ++row) {
    kernels.scale(rows.phi_row(row), -1.0f, w.features, rows.phi_row(row) + w.features);
  }
  for (float* half : {rows.phi, rows.phi + w.features}) {
    kernels.exp_rows({.x = half,
                      .stride = rows.phi_stride,
                      .rows = rows.count,
                      .count = w.features,
                      .maxima = sums.data() + rows.count,
                      .sums = sums.data()});
    for (int64_t row = 0; row < rows.count; ++row) {
      float* phi = half + row * rows.phi_stride;
      kernels.scale(phi, 1.0f / sums[static_cast<size_t>(row)], w.features, phi);
      for (int64_t f = 0; f < w.features; ++f) phi[f] = std::max(phi[f], kMinFeature);
    }
  }
}

namespace {

class HedgehogMap : public FeatureMap {
 public:
  HedgehogMap(const AttentionShape& shape, int64_t features) : shape_(shape), features_(features) {}
  int64_t features() const override { return 2 * features_; }
  std::vector<ParameterInfo> parameters() const override {
    return {{"feature_q.weight", {shape_.heads, shape_.dim_k, features_}, Init::kIdentity, true},
            {"feature_k.weight", {shape_.heads_kv, shape_.dim_k, features_}, Init::kIdentity, true}};
  }
  void load(const std::vector<std::vector<float>>& values) override {
    q_ = values[0];
    k_ = values[1];
  }
  void queries(const Kernels& kernels, const MapRows& rows, int head) const override {
    hedgehog(kernels, rows, of(q_, head));
  }
  void keys(const Kernels& kernels, const MapRows& rows, int kv_head) const override {
    hedgehog(kernels, rows, of(k_, kv_head));
  }

 private:
  HedgehogWeight of(const std::vector<float>& weights, int head) const {
    return {weights.data() + head * shape_.dim_k * features_, shape_.dim_k, features_};
  }
  AttentionShape shape_;
  int64_t features_;
  std::vector<float> q_, k_;
};

std::vector<double> plain_hedgehog(const plain::FeatureInput& in) {
  const AttentionShape& shape = in.head.shape;
  return in.is_query ? plain::hedgehog(in.x(), in.parameters[0], in.head.head, shape.heads, in.dim())
                     : plain::hedgehog(in.x(), in.parameters[1], in.head.kv_head(), shape.heads_kv, in.dim());
}

}  // namespace

std::vector<double> plain::hedgehog(const float* x, const std::vector<float>& weights, int head, int heads, int dim) {
  const size_t features = weights.size() / (static_cast<size_t>(heads) * dim);
  const float* weight = weights.data() + head * dim * features;
  std::vector<double> y(features, 0.0), phi;
  for (int d = 0; d < dim; ++d) {
    for (size_t f = 0; f < features; ++f) y[f] += double{x[d]} * weight[d * features + f];
  }
  for (const double sign : {1.0, -1.0}) {
    double sum = 0;
    for (const double u : y) sum += std::exp(sign * u);
    for (const double u : y) phi.push_back(std::max(std::exp(sign * u) / sum, double{kMinFeature}));
  }
  return phi;
}

const AttentionCard& hedgehog_card() {
  static const AttentionCard card{
      .name = "hedgehog",
      .summary = "a sum over all rows, learned features softmax(x W) and softmax(-x W)",
      .paper = "Zhang et al. 2024, arXiv 2402.04347",
      .options = {integer_option("features", "Dk", 1, 4096, "columns of W, two features each")},
      .samples = {"hedgehog", "hedgehog(features=3)"},
      .in_models = {"hedgehog"},
      .additive = {.form =
                       [](const AttentionOptions& options, const AttentionShape& shape) {
                         const int64_t features = options.integer_or("features", shape.dim_k);
                         return AdditiveForm{.map = std::make_unique<HedgehogMap>(shape, features),
                                             .denominator = {Denominator::kPlus, kMinFeature}};
                       },
                   .features = plain_hedgehog,
                   .denominator = [](double sum) { return sum + 1e-12; }}};
  return card;
}

}  // namespace espalier
