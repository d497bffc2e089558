#include "attention/hybrid/hybrid.h"

#include <vector>

#include "attention/shared/plain.h"

namespace espalier::plain {

// y = window + alpha_h * gated_delta
void hybrid(const AttentionSpec& spec, const Parameters& parameters, const Head& head, int64_t t, double* out) {
  window(hybrid_window(spec), {}, head, t, out);
  std::vector<double> far(static_cast<size_t>(head.shape.dim_v), 0.0);
  gated_delta(hybrid_memory(spec), {parameters.begin() + 1, parameters.end()}, head, t, far.data());
  for (size_t c = 0; c < far.size(); ++c) out[c] += parameters[0][static_cast<size_t>(head.head)] * far[c];
}

}  // namespace espalier::plain
