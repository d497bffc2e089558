#include "attention/shared/plain.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "attention/shared/min_norm.h"

namespace espalier::plain {
namespace {

double norm(const float* x, int dim) {
  double sum = 0;
  for (int i = 0; i < dim; ++i) sum += double{x[i]} * x[i];
  return std::max(std::sqrt(sum), double{kMinNorm});
}

// The form of a mechanism; null: it is additive, and its card holds the features.
Form form_of(const std::string& name) {
#define MECHANISM(x) \
  if (name == #x) return x;
#define ADDITIVE(x)
#include "attention/mechanisms.def"
  return nullptr;
}

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
  const AttentionOptions options = checked_options(spec);
  const Form form = form_of(spec.name());
  std::vector<double> out(static_cast<size_t>(shape.heads) * shape.dim_v, 0.0);
  bool norm_of_heads = false;
  for (int head = 0; head < shape.heads; ++head) {
    const Head own{&rows, shape, head, span, bias, &norm_of_heads};
    double* y = out.data() + head * shape.dim_v;
    form ? form(options, parameters, own, t, y) : additive(options, parameters, own, t, own.seen_end(t), y);
  }
  if (norm_of_heads) {
    double squares = 0;
    for (const double y : out) squares += y * y;
    for (double& y : out) y /= std::sqrt(squares / static_cast<double>(out.size())) + 1e-8;
  }
  return out;
}

}  // namespace espalier::plain
