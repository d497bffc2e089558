#include <algorithm>
#include <vector>

#include "attention/hedgehog/hedgehog.h"

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

}  // namespace

AdditiveForm make_hedgehog_form(const AttentionSpec& spec, const AttentionShape& shape) {
  spec.reject_unknown("features");
  return {.map = std::make_unique<HedgehogMap>(shape, spec.integer("features", shape.dim_k, 1, 4096)),
          .denominator = {Denominator::kPlus, kMinFeature}};
}

}  // namespace espalier
