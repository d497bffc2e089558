#include <vector>

#include "attention/reference/plain.h"

namespace espalier::plain {

// y = local + alpha * global + conv
void augmented(const AttentionSpec& spec, const Parameters& parameters, const Head& head, int64_t t, double* out) {
  if (spec.value("local", "blocked") != "none") flash_local(spec, {}, head, t, out);
  if (spec.value("global", "flash_global") != "none") {
    std::vector<double> part(static_cast<size_t>(head.shape.dim_v), 0.0);
    flash_global(spec, {}, head, t, part.data());
    for (int c = 0; c < head.shape.dim_v; ++c) out[c] += parameters[0][0] * part[static_cast<size_t>(c)];
  }
  conv(spec, parameters, head, t, out);
}

}  // namespace espalier::plain
