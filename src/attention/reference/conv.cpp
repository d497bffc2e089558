#include "attention/conv.h"

#include "attention/reference/plain.h"

namespace espalier::plain {

// y_t = sum_{j<W} w[h][j] v_{t - (W-1) + j}, rows before the text left out
void conv(const AttentionSpec& spec, const Parameters& parameters, const Head& head, int64_t t, double* out) {
  const int64_t taps = spec.integer("taps", 32, 0, kMaxTaps);
  for (int64_t j = 0; j < taps; ++j) {
    const int64_t s = t - (taps - 1) + j;
    if (s >= 0) head.add_v(s, parameters.back()[static_cast<size_t>(head.head * taps + j)], out);
  }
}

}  // namespace espalier::plain
