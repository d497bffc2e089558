#include <algorithm>
#include <cmath>
#include <limits>

#include "attention/shared/plain.h"

namespace espalier::plain {

// y_t = sum_s e^{x_ts} v_s / sum_s e^{x_ts},  x = q.k / sqrt(Dk) + bias, over s <= t or, in a span, all s
void softmax(const AttentionOptions&, const Parameters&, const Head& head, int64_t t, double* out) {
  const double scale =
      head.shape.scale != 0 ? head.shape.scale : 1.0 / std::sqrt(static_cast<double>(head.shape.dim_k));
  const auto x = [&](int64_t s) {
    return head.dot(t, s) * scale + (head.bias.values ? head.bias.of(head.head, s - t) : 0.0);
  };
  const int64_t end = head.seen_end(t);
  double max = -std::numeric_limits<double>::infinity(), sum = 0;
  for (int64_t s = 0; s < end; ++s) max = std::max(max, x(s));
  for (int64_t s = 0; s < end; ++s) sum += std::exp(x(s) - max);
  for (int64_t s = 0; s < end; ++s) head.add_v(s, std::exp(x(s) - max) / sum, out);
}

}  // namespace espalier::plain
