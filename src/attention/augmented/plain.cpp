#include "attention/augmented/augmented.h"

#include <vector>

#include "attention/flash/flash.h"
#include "attention/shared/plain.h"

namespace espalier::plain {

// y = local + alpha * global + conv
void augmented(const AttentionSpec& spec, const Parameters& parameters, const Head& head, int64_t t, double* out) {
  if (spec.value("local", "blocked") != "none") flash_local(spec, {}, head, t, out);
  const std::string global = spec.value("global", "flash_global");
  if (global != "none") {
    std::vector<double> part(static_cast<size_t>(head.shape.dim_v), 0.0);
    if (global == "flash_global") {
      flash_global(spec, {}, head, t, part.data());
    } else {
      const int64_t group = spec.integer("group", 64, kMinGroup, kMaxGroup);
      additive(AttentionSpec::parse(global), {parameters.begin() + 1, parameters.end()}, head, t,
               head.span ? head.seen_end(t) : t / group * group, part.data());
    }
    for (int c = 0; c < head.shape.dim_v; ++c) out[c] += parameters[0][0] * part[static_cast<size_t>(c)];
  }
  conv(spec, parameters, head, t, out);
}

// y = local + global
void flash(const AttentionSpec& spec, const Parameters&, const Head& head, int64_t t, double* out) {
  augmented(flash_as_augmented(spec), {{1.0f}}, head, t, out);
}

}  // namespace espalier::plain
