#include "attention/shared/plain.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "attention/flash/flash.h"
#include "attention/transnormer/transnormer.h"
#include "core/error.h"

namespace espalier::plain {
namespace {

double norm(const float* x, int dim) {
  double sum = 0;
  for (int i = 0; i < dim; ++i) sum += double{x[i]} * x[i];
  return std::max(std::sqrt(sum), double{kMinNorm});
}

constexpr std::pair<const char*, Form> kForms[] = {
    {"softmax", softmax},
    {"flash_local", flash_local},
    {"flash_global", flash_global},
    {"conv", conv},
    {"augmented", augmented},
    {"lolcats", lolcats},
    {"window", window},
    {"flash", flash},
    {"transnormer", transnormer},
    {"retention", retention},
    {"gla", gla},
    {"gated_delta", gated_delta},
    {"hybrid", hybrid},
    {"gau", gau},
    {"linformer", linformer},
    {"yoso", yoso},
};

}  // namespace

double Head::dot(int64_t t, int64_t s) const {
  double sum = 0;
  for (int i = 0; i < shape.dim_k; ++i) sum += double{q(t)[i]} * k(s)[i];
  return sum;
}

double Head::unit_dot(int64_t t, int64_t s) const {
  return dot(t, s) / (norm(q(t), shape.dim_k) * norm(k(s), shape.dim_k));
}

void Head::add_v(int64_t s, double weight, double* out) const {
  for (int c = 0; c < shape.dim_v; ++c) out[c] += weight * v(s)[c];
}

std::vector<double> attention_row(const AttentionSpec& spec, const AttentionShape& shape, const Parameters& parameters,
                                  const Sequence& rows, int64_t t, bool span, const RelativeBias& bias) {
  const auto form =
      std::find_if(std::begin(kForms), std::end(kForms), [&](const auto& entry) { return spec.name() == entry.first; });
  std::vector<double> out(static_cast<size_t>(shape.heads) * shape.dim_v, 0.0);
  for (int head = 0; head < shape.heads; ++head) {
    const Head own{&rows, shape, head, span, bias};
    double* y = out.data() + head * shape.dim_v;
    if (form != std::end(kForms)) {
      form->second(spec, parameters, own, t, y);
    } else if (!additive(spec, parameters, own, t, own.seen_end(t), y)) {
      throw InvalidArgument(error_text("attention", "a mechanism with a plain form", "'" + spec.name() + "'"));
    }
  }
  // The layer's norm over all heads.
  const bool norm = (spec.name() == "transnormer" && !is_diagonal_layer(shape)) ||
                    AttentionSpec::parse(spec.value("global", "none")).name() == "transnormer";
  if (norm) {
    double squares = 0;
    for (const double y : out) squares += y * y;
    for (double& y : out) y /= std::sqrt(squares / static_cast<double>(out.size())) + 1e-8;
  }
  return out;
}

}  // namespace espalier::plain
