#include <algorithm>
#include <cmath>
#include <numbers>

#include "attention/flash/flash.h"
#include "attention/shared/elementwise_maps.h"
#include "core/error.h"

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

class Relu : public SharedMap {
 public:
  using SharedMap::SharedMap;

 private:
  void map(const Kernels&, const float* x, float* phi) const override {
    for (int64_t i = 0; i < dim_; ++i) phi[i] = std::max(x[i], 0.0f);
  }
};

// [sqrt(1/2), x^ / sqrt(pi)]
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

class Cosformer : public FeatureMap {
 public:
  Cosformer(int64_t dim, int64_t length) : dim_(dim), length_(length) {}
  int64_t features() const override { return 2 * dim_; }
  int64_t max_length() const override { return length_; }
  void queries(const Kernels& kernels, const MapRows& rows, int) const override { map(kernels, rows); }
  void keys(const Kernels& kernels, const MapRows& rows, int) const override { map(kernels, rows); }

 private:
  void map(const Kernels& kernels, const MapRows& rows) const {
    for (int64_t row = 0; row < rows.count; ++row) {
      const double angle =
          std::numbers::pi / 2 * static_cast<double>(rows.position(row) + 1) / static_cast<double>(length_);
      const float* x = rows.x_row(row);
      float* phi = rows.phi_row(row);
      for (int64_t i = 0; i < dim_; ++i) phi[dim_ + i] = std::max(x[i], 0.0f);
      kernels.scale(phi + dim_, static_cast<float>(std::sin(angle)), dim_, phi);
      kernels.scale(phi + dim_, static_cast<float>(std::cos(angle)), dim_, phi + dim_);
    }
  }
  int64_t dim_, length_;
};

}  // namespace

std::unique_ptr<FeatureMap> make_elu_plus_one(int64_t dim) {
  return std::make_unique<EluPlusOne>(dim);
}

AdditiveForm make_linear_form(const AttentionSpec& spec, const AttentionShape& shape) {
  spec.reject_unknown("");
  return {.map = std::make_unique<EluPlusOne>(shape.dim_k), .denominator = {Denominator::kPlus, 1e-6f}};
}

AdditiveForm make_relu_form(const AttentionSpec& spec, const AttentionShape& shape) {
  spec.reject_unknown("");
  return {.map = std::make_unique<Relu>(shape.dim_k), .denominator = {Denominator::kPlus, 1e-15f}};
}

AdditiveForm make_angular_form(const AttentionSpec& spec, const AttentionShape& shape) {
  spec.reject_unknown("");
  // Weights lie in [0.18, 0.82]; the bound serves groups that have seen nothing.
  return {.map = std::make_unique<Angular>(shape.dim_k), .denominator = {Denominator::kAtLeast, 1e-6f}};
}

AdditiveForm make_cosformer_form(const AttentionSpec& spec, const AttentionShape& shape) {
  spec.reject_unknown("length");
  const int64_t length = spec.integer("length", 0, 0, int64_t{1} << 30);
  if (length == 0) {
    throw InvalidArgument(error_text("attention '" + spec.text() + "', layer " + std::to_string(shape.layer),
                                     "the longest text that it will meet", "none", "cosformer(length=8192)"));
  }
  return {.map = std::make_unique<Cosformer>(shape.dim_k, length), .denominator = {Denominator::kAtLeast, 1e-6f}};
}

}  // namespace espalier
