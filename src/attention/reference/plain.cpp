#include "attention/reference/plain.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "attention/flash.h"
#include "core/error.h"

namespace espalier::plain {
namespace {

double norm(const float* x, int dim) {
  double sum = 0;
  for (int i = 0; i < dim; ++i) sum += double{x[i]} * x[i];
  return std::max(std::sqrt(sum), double{kMinNorm});
}

constexpr std::pair<const char*, Form> kForms[] = {
    {"softmax", softmax}, {"flash_local", flash_local}, {"flash_global", flash_global},
    {"conv", conv},       {"augmented", augmented},     {"lolcats", lolcats},
    {"window", window},
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
                                  const Sequence& rows, int64_t t) {
  for (const auto& [name, form] : kForms) {
    if (spec.name() != name) continue;
    std::vector<double> out(static_cast<size_t>(shape.heads) * shape.dim_v, 0.0);
    for (int head = 0; head < shape.heads; ++head) {
      form(spec, parameters, {&rows, shape, head}, t, out.data() + head * shape.dim_v);
    }
    return out;
  }
  throw InvalidArgument(error_text("attention", "a mechanism with a plain form", "'" + spec.name() + "'"));
}

}  // namespace espalier::plain
