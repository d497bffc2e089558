#include "attention/gau/gau.h"

#include <algorithm>
#include <cmath>

#include "attention/conv/plain.h"
#include "attention/shared/min_norm.h"

namespace espalier::plain {
namespace {

double activated(Activation f, double x) {
  if (f == Activation::kReluSquared) return std::max(x, 0.0) * std::max(x, 0.0);
  return 0.5 * std::erfc(-(x - std::sqrt(0.5)) * std::sqrt(2.0 * M_PI));
}

}  // namespace

// z_t = sum_{s<=t, g(s)=g(t)} f(a_t.c_s / G + bias(s - t)) v_s + sum_{g(s)<g(t)} b_t.e_s v_s / G, of a span over all s
// in the group and all s, / T; castling: x = v_t / 2 + z_t / pi over its length; + conv
void gau(const AttentionOptions& given, const Parameters& parameters, const Head& head, int64_t t, double* out) {
  const GauOptions options = GauOptions::of(given);
  const int near = head.shape.dim_k / 2;
  const auto product = [&](int64_t s, int first, int last) {
    double sum = 0;
    for (int i = first; i < last; ++i) sum += double{head.q(t)[i]} * head.k(s)[i];
    return sum;
  };
  const int64_t closed = t / options.group * options.group, end = head.seen_end(t);
  const auto group = static_cast<double>(options.group);
  if (options.global) {
    const int64_t last = head.span ? end : closed;
    const double divisor = head.span ? static_cast<double>(end) : group;
    for (int64_t s = 0; s < last; ++s) head.add_v(s, product(s, near, head.shape.dim_k) / divisor, out);
  }
  if (options.local) {
    for (int64_t s = closed; s < std::min(end, closed + options.group); ++s) {
      const double bias = head.bias.values ? head.bias.of(head.head, s - t) : 0.0;
      head.add_v(s, activated(options.activation, product(s, 0, near) / group + bias), out);
    }
  }
  if (options.castling) {
    for (int c = 0; c < head.shape.dim_v; ++c) out[c] /= M_PI;
    head.add_v(t, 0.5, out);
    double squares = 0;
    for (int c = 0; c < head.shape.dim_v; ++c) squares += out[c] * out[c];
    for (int c = 0; c < head.shape.dim_v; ++c) out[c] /= std::max(std::sqrt(squares), double{kMinNorm});
  }
  conv(options.taps, parameters, head, t, out);
}

}  // namespace espalier::plain
