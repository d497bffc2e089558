#include <algorithm>
#include <cmath>
#include <limits>

#include "attention/reference/plain.h"

namespace espalier::plain {

// y_t = sum_{s<=t} e^{x_ts} v_s / sum_{s<=t} e^{x_ts},  x = q.k / sqrt(Dk)
void softmax(const AttentionSpec&, const Parameters&, const Head& head, int64_t t, double* out) {
  const double scale = 1.0 / std::sqrt(static_cast<double>(head.shape.dim_k));
  double max = -std::numeric_limits<double>::infinity(), sum = 0;
  for (int64_t s = 0; s <= t; ++s) max = std::max(max, head.dot(t, s) * scale);
  for (int64_t s = 0; s <= t; ++s) sum += std::exp(head.dot(t, s) * scale - max);
  for (int64_t s = 0; s <= t; ++s) head.add_v(s, std::exp(head.dot(t, s) * scale - max) / sum, out);
}

}  // namespace espalier::plain
