#include "attention/conv/plain.h"

namespace espalier::plain {

// y_t = sum_{j<W} w[h][j] v_{t - (W-1) + j}, of an encoder j < 2 W - 1; rows outside of the text left out
void conv(int64_t taps, const Parameters& parameters, const Head& head, int64_t t, double* out) {
  if (taps == 0) return;
  const int64_t width = static_cast<int64_t>(parameters.back().size()) / head.shape.heads;
  for (int64_t j = 0; j < width; ++j) {
    const int64_t s = t - (taps - 1) + j;
    if (s < 0 || s >= head.seen_end(t)) continue;
    head.add_v(s, parameters.back()[static_cast<size_t>(head.head * width + j)], out);
  }
}

void conv(const AttentionOptions& options, const Parameters& parameters, const Head& head, int64_t t, double* out) {
  conv(options.integer("taps"), parameters, head, t, out);
}

}  // namespace espalier::plain
