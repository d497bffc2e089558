#include "attention/performer/performer.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "attention/shared/plain.h"
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

std::vector<double> plain_performer(const plain::FeatureInput& in) {
  const PerformerOptions options = PerformerOptions::of(in.options, in.head.shape);
  std::vector<double> scaled;
  for (int i = 0; i < in.dim(); ++i) scaled.push_back(in.x()[i] * std::pow(static_cast<double>(in.dim()), -0.25));
  double squares = 0;
  for (const double x : scaled) squares += x * x;
  std::vector<double> phi;
  for (const double sign : {1.0, -1.0}) {
    if (sign < 0 && !options.hyperbolic) continue;
    for (const double u : plain::product(in.parameters[0].data(), scaled, options.directions)) {
      phi.push_back(std::exp(sign * u - squares / 2) / std::sqrt(static_cast<double>(options.features)));
    }
  }
  return phi;
}

}  // namespace

PerformerOptions PerformerOptions::of(const AttentionOptions& given, const AttentionShape& shape) {
  PerformerOptions options{.features = given.integer_or("features", 2 * int64_t{shape.dim_k}),
                           .directions = 0,
                           .hyperbolic = given.is("form", "hyperbolic")};
  if (options.hyperbolic && options.features % 2 == 1) {
    throw InvalidArgument(error_text("attention '" + given.spec().text() + "'", "an even number of features",
                                     std::to_string(options.features)));
  }
  options.directions = options.hyperbolic ? options.features / 2 : options.features;
  return options;
}

const AttentionCard& performer_card() {
  static const AttentionCard card{
      .name = "performer",
      .summary = "a sum over all rows, positive random features that estimate softmax (FAVOR+)",
      .paper = "Choromanski et al. 2020, arXiv 2009.14794",
      .options = {integer_option("features", "2 Dk", 1, 4096, "random features"),
                  choice_option("form", "positive|hyperbolic", "e^u, or e^u and e^-u of half as many directions")},
      .samples = {"performer", "performer(features=10,form=hyperbolic)"},
      .in_models = {"performer(features=24)"},
      .additive = {.form =
                       [](const AttentionOptions& options, const AttentionShape& shape) {
                         return AdditiveForm{
                             .map = std::make_unique<Performer>(PerformerOptions::of(options, shape), shape.dim_k),
                             .denominator = {Denominator::kPlus, 1e-6f}};
                       },
                   .features = plain_performer,
                   .denominator = [](double sum) { return sum + 1e-6; }}};
  return card;
}

}  // namespace espalier
