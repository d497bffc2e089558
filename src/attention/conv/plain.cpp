#include "attention/conv/conv.h"

#include "attention/shared/plain.h"

namespace espalier::plain {

// y_t = sum_{j<W} w[h][j] v_{t - (W-1) + j}, of an encoder j < 2 W - 1; rows outside of the text left out
void conv(const AttentionSpec& spec, const Parameters& parameters, const Head& head, int64_t t, double* out) {
  const int64_t taps = spec.integer("taps", 32, 0, kMaxTaps);
  const int64_t width = static_cast<int64_t>(parameters.empty() ? 0 : parameters.back().size()) / head.shape.heads;
  for (int64_t j = 0; j < (taps > 0 ? width : 0); ++j) {
    const int64_t s = t - (taps - 1) + j;
    if (s < 0 || s >= head.seen_end(t)) continue;
    head.add_v(s, parameters.back()[static_cast<size_t>(head.head * width + j)], out);
  }
}

}  // namespace espalier::plain
