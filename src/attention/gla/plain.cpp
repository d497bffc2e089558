#include "attention/gla/gla.h"

#include <cmath>

#include "attention/shared/decay_plain.h"

namespace espalier::plain {

void gla(const AttentionOptions& options, const Parameters& parameters, const Head& head, int64_t t, double* out) {
  Memory memory(head);
  for (int64_t s = 0; s <= t; ++s) {
    for (int d = 0; d < memory.dim; ++d) {
      const double z = affine(parameters, head, s, int64_t{head.kv_head()} * memory.dim + d);
      memory.decay(d, std::pow(1 / (1 + std::exp(-z)), 1 / kGateDivisor));
    }
    memory.add(doubles(head.k(s), memory.dim), doubles(head.v(s), memory.dim_v));
  }
  finish(has_head_norm(options), parameters, head, memory.read(doubles(head.q(t), memory.dim)), out);
}

}  // namespace espalier::plain
