#include "attention/hybrid/hybrid.h"

#include <vector>

#include "attention/gated_delta/plain.h"
#include "attention/lolcats/plain.h"

namespace espalier::plain {

// y = window + alpha_h * gated_delta
void hybrid(const AttentionOptions& given, const Parameters& parameters, const Head& head, int64_t t, double* out) {
  const HybridOptions options = HybridOptions::of(given);
  lolcats(options.window, {}, head, t, out);
  std::vector<double> far(static_cast<size_t>(head.shape.dim_v), 0.0);
  gated_delta(options.memory, {parameters.begin() + 1, parameters.end()}, head, t, far.data());
  for (size_t c = 0; c < far.size(); ++c) out[c] += parameters[0][static_cast<size_t>(head.head)] * far[c];
}

}  // namespace espalier::plain
