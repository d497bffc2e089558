#include "attention/retention/retention.h"

#include <cmath>

#include "attention/shared/decay_plain.h"

namespace espalier::plain {

void retention(const AttentionOptions& options, const Parameters& parameters, const Head& head, int64_t t,
               double* out) {
  const RetentionOptions rates = RetentionOptions::of(options);
  Memory memory(head);
  for (int64_t s = 0; s <= t; ++s) {
    for (int d = 0; d < memory.dim; ++d) {
      memory.decay(d, std::exp(rates.log_decay(head.shape, head.kv_head())));
    }
    memory.add(doubles(head.k(s), memory.dim), doubles(head.v(s), memory.dim_v));
  }
  finish(rates.norm, parameters, head, memory.read(doubles(head.q(t), memory.dim)), out);
}

}  // namespace espalier::plain
