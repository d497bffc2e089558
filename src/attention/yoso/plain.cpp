#include "attention/yoso/yoso.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "attention/shared/plain.h"

namespace espalier::plain {

void yoso(const AttentionOptions& given, const Parameters& parameters, const Head& head, int64_t t, double* out) {
  const YosoOptions options = YosoOptions::of(given);
  const int dim = head.shape.dim_k;
  const auto bit = [&](const float* x, int64_t hash, int64_t i) {
    const float* w = parameters[0].data() + ((head.kv_head() * options.hashes + hash) * options.bits + i) * dim;
    double z = 0;
    for (int d = 0; d < dim; ++d) z += double{w[d]} * x[d];
    return z > 0;
  };
  std::vector<double> raw(static_cast<size_t>(head.shape.dim_v), 0.0);
  for (int64_t s = 0; s <= t; ++s) {
    double weight = 0;
    if (s / options.group == t / options.group) {
      const double angle = std::acos(kYosoShrink * std::clamp(head.unit_dot(t, s), -1.0, 1.0));
      weight = std::pow(1 - angle / std::numbers::pi, static_cast<double>(options.bits));
    } else {
      for (int64_t hash = 0; hash < options.hashes; ++hash) {
        bool same = true;
        for (int64_t i = 0; i < options.bits; ++i) same = same && bit(head.q(t), hash, i) == bit(head.k(s), hash, i);
        weight += same ? 1.0 / static_cast<double>(options.hashes) : 0.0;
      }
    }
    head.add_v(s, weight, raw.data());
  }
  double squares = 0;
  for (const double y : raw) squares += y * y;
  for (size_t c = 0; c < raw.size(); ++c) out[c] += raw[c] / std::max(std::sqrt(squares), kYosoMinNorm);
}

}  // namespace espalier::plain
