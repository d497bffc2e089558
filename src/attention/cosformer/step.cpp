// `cosformer(length=N)`: phi(x)_t = [relu(x) sin a_t, relu(x) cos a_t], a_t = (pi / 2) (t + 1) / N, d(x) = max(x,
// 1e-6). N is fixed when the model is built: the original takes the current length, so that its past changes as the
// text grows. No scale on q and k.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "attention/shared/additive.h"
#include "attention/shared/plain.h"
#include "core/error.h"

namespace espalier {
namespace {

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

AdditiveForm form(const AttentionOptions& options, const AttentionShape& shape) {
  const int64_t length = options.integer_or("length", 0);
  if (length == 0) {
    throw InvalidArgument(error_text("attention '" + options.spec().text() + "', layer " + std::to_string(shape.layer),
                                     "the longest text that it will meet", "none", "cosformer(length=8192)"));
  }
  return {.map = std::make_unique<Cosformer>(shape.dim_k, length), .denominator = {Denominator::kAtLeast, 1e-6f}};
}

std::vector<double> plain_cosformer(const plain::FeatureInput& in) {
  const double n = static_cast<double>(in.options.integer_or("length", 0));
  const double angle = std::numbers::pi / 2 * static_cast<double>(in.position + 1) / n;
  std::vector<double> phi;
  for (const double factor : {std::sin(angle), std::cos(angle)}) {
    for (int i = 0; i < in.dim(); ++i) phi.push_back(std::max(double{in.x()[i]}, 0.0) * factor);
  }
  return phi;
}

}  // namespace

const AttentionCard& cosformer_card() {
  static const AttentionCard card{
      .name = "cosformer",
      .summary = "a sum over all rows, features relu(x) turned by the row's place in a text of known length",
      .paper = "Qin et al. 2022, arXiv 2202.08791",
      .options = {integer_option("length", "", 0, int64_t{1} << 30,
                                 "positions of the longest text that it will meet; must be given")},
      .samples = {"cosformer(length=60)", "cosformer(length=1000)"},
      .in_models = {"cosformer(length=4096)"},
      .measured = {"cosformer(length=65536)"},
      .additive = {
          .form = form, .features = plain_cosformer, .denominator = [](double sum) { return std::max(sum, 1e-6); }}};
  return card;
}

}  // namespace espalier
