#include "attention/augmented/plain.h"

#include <vector>

#include "attention/conv/plain.h"
#include "attention/flash/plain.h"

namespace espalier::plain {

// y = local + alpha * global + conv
void augmented(const AugmentedOptions& options, const Parameters& parameters, const Head& head, int64_t t,
               double* out) {
  if (options.local) flash_local(*options.local, head, t, out);
  std::vector<double> part(static_cast<size_t>(head.shape.dim_v), 0.0);
  if (options.flash_global) flash_global(*options.flash_global, head, t, part.data());
  if (options.additive) {
    additive(checked_options(*options.additive), {parameters.begin() + 1, parameters.end()}, head, t,
             head.span ? head.seen_end(t) : t / options.group * options.group, part.data());
  }
  for (size_t c = 0; options.has_global() && c < part.size(); ++c) out[c] += parameters[0][0] * part[c];
  conv(options.taps, parameters, head, t, out);
}

void augmented(const AttentionOptions& options, const Parameters& parameters, const Head& head, int64_t t,
               double* out) {
  augmented(AugmentedOptions::of(options), parameters, head, t, out);
}

}  // namespace espalier::plain
