#include <algorithm>
#include <cmath>
#include <vector>

#include "attention/shared/random_maps.h"
#include "core/error.h"

namespace espalier {
namespace {

class Performer : public FeatureMap {
 public:
  Performer(const PerformerOptions& options, int64_t dim) : options_(options), dim_(dim) {}
  int64_t features() const override { return options_.features; }
  std::vector<ParameterInfo> parameters() const override {
    return {{.name = "performer.weight",
             .shape = {options_.directions, dim_},
             .init = Init::kOrthogonal,
             .feature = true,
             .trained = false}};
  }
  void load(const std::vector<std::vector<float>>& values) override {
    const float factor = static_cast<float>(std::pow(static_cast<double>(dim_), -0.25));
    weight_.resize(values[0].size());
    for (int64_t m = 0; m < options_.directions; ++m) {
      for (int64_t d = 0; d < dim_; ++d) {
        weight_[static_cast<size_t>(d * options_.directions + m)] =
            values[0][static_cast<size_t>(m * dim_ + d)] * factor;
      }
    }
  }
  void queries(const Kernels& kernels, const MapRows& rows, int) const override { map(kernels, rows); }
  void keys(const Kernels& kernels, const MapRows& rows, int) const override { map(kernels, rows); }

 private:
  void map(const Kernels& kernels, const MapRows& rows) const {
    apply_matrix(kernels, rows, weight_.data(), dim_, options_.directions);
    const float root = std::sqrt(static_cast<float>(dim_));
    // In double first: last bits of the logarithm of a float differ between versions of the C library.
    const auto half_log = static_cast<float>(0.5 * std::log(static_cast<double>(options_.features)));
    for (int64_t row = 0; row < rows.count; ++row) {
      float* phi = rows.phi_row(row);
      const float squares = kernels.dot(rows.x_row(row), rows.x_row(row), dim_) / root;
      const float shift = 0.5f * squares + half_log;
      if (options_.hyperbolic) {
        kernels.scale(phi, -1.0f, options_.directions, phi + options_.directions);
        kernels.exp_sum(phi + options_.directions, shift, options_.directions, phi + options_.directions);
      }
      kernels.exp_sum(phi, shift, options_.directions, phi);
    }
  }
  PerformerOptions options_;
  int64_t dim_;
  std::vector<float> weight_;  // [D][directions] W^T D^(-1/4)
};

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

}  // namespace

PerformerOptions PerformerOptions::of(const AttentionSpec& spec, const AttentionShape& shape) {
  spec.reject_unknown("features|form");
  PerformerOptions options{.features = spec.integer("features", 2 * int64_t{shape.dim_k}, 1, 4096),
                           .directions = 0,
                           .hyperbolic = spec.choice("form", "positive", "positive|hyperbolic") == "hyperbolic"};
  if (options.hyperbolic && options.features % 2 == 1) {
    throw InvalidArgument(
        error_text("attention '" + spec.text() + "'", "an even number of features", std::to_string(options.features)));
  }
  options.directions = options.hyperbolic ? options.features / 2 : options.features;
  return options;
}

AdditiveForm make_performer_form(const AttentionSpec& spec, const AttentionShape& shape) {
  return {.map = std::make_unique<Performer>(PerformerOptions::of(spec, shape), shape.dim_k),
          .denominator = {Denominator::kPlus, 1e-6f}};
}

AdditiveForm make_rfa_form(const AttentionSpec& spec, const AttentionShape& shape) {
  spec.reject_unknown("features");
  return {.map = std::make_unique<Rfa>(shape, spec.integer("features", shape.dim_k, 1, 4096)),
          .denominator = {Denominator::kAtLeast, 1.0f}};
}

}  // namespace espalier
