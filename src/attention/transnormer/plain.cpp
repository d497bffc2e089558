#include "attention/transnormer/transnormer.h"

#include <cmath>

#include "attention/shared/plain.h"

namespace espalier::plain {

// Layers of the first half: softmax over t's group.
void transnormer(const AttentionOptions& options, const Parameters& parameters, const Head& head, int64_t t,
                 double* out) {
  if (!is_diagonal_layer(head.shape)) {
    additive(options, parameters, head, t, head.seen_end(t), out);
    return;
  }
  const int64_t group = options.integer("group");
  const double scale = 1.0 / std::sqrt(static_cast<double>(head.shape.dim_k));
  double sum = 0;
  for (int64_t s = t / group * group; s <= t; ++s) sum += std::exp(head.dot(t, s) * scale);
  for (int64_t s = t / group * group; s <= t; ++s) head.add_v(s, std::exp(head.dot(t, s) * scale) / sum, out);
}

}  // namespace espalier::plain
