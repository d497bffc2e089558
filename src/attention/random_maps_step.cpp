#include <algorithm>
#include <cmath>
#include <vector>

#include "attention/random_maps.h"
#include "core/error.h"

namespace espalier {
namespace {

// y [outputs] = x W, W [inputs][outputs]: outputs are lanes.
void apply(const Kernels& kernels, const float* weight, const float* x, int64_t outputs, int64_t inputs, float* y) {
  std::fill(y, y + outputs, 0.0f);
  kernels.weighted_sum(
      {.weights = x, .rows = weight, .count = inputs, .row_stride = outputs, .dim = outputs, .out = y});
}

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
  void query(const Kernels& kernels, const float* x, int, int64_t, float* phi) const override { map(kernels, x, phi); }
  void key(const Kernels& kernels, const float* x, int, int64_t, float* phi) const override { map(kernels, x, phi); }

 private:
  void map(const Kernels& kernels, const float* x, float* phi) const {
    const float squares = kernels.dot(x, x, dim_) / std::sqrt(static_cast<float>(dim_));
    const float shift = 0.5f * squares + 0.5f * std::log(static_cast<float>(options_.features));
    apply(kernels, weight_.data(), x, options_.directions, dim_, phi);
    if (options_.hyperbolic) {
      kernels.scale(phi, -1.0f, options_.directions, phi + options_.directions);
      kernels.exp_sum(phi + options_.directions, shift, options_.directions, phi + options_.directions);
    }
    kernels.exp_sum(phi, shift, options_.directions, phi);
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
  void query(const Kernels& kernels, const float* x, int head, int64_t, float* phi) const override {
    map(kernels, x, head / shape_.heads_per_kv(), phi);
  }
  void key(const Kernels& kernels, const float* x, int kv_head, int64_t, float* phi) const override {
    map(kernels, x, kv_head, phi);
  }

 private:
  void map(const Kernels& kernels, const float* x, int kv_head, float* phi) const {
    const int64_t dim = shape_.dim_k;
    const float inverse = 1.0f / (std::sqrt(kernels.dot(x, x, dim)) + kRfaNorm);
    float* u = phi + directions_;
    apply(kernels, weight_.data() + kv_head * directions_ * dim, x, directions_, dim, u);
    for (int64_t p = 0; p < directions_; ++p) {
      const double angle = double{u[p]} * double{inverse};
      phi[p] = kRfaScale * static_cast<float>(std::sin(angle));
      u[p] = kRfaScale * static_cast<float>(std::cos(angle));
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
