// gated_delta.h's rule in f64.
#pragma once

#include "attention/gated_delta/gated_delta.h"
#include "attention/shared/plain.h"

namespace espalier::plain {

void gated_delta(const GatedDeltaOptions& options, const Parameters& parameters, const Head& head, int64_t t,
                 double* out);

}  // namespace espalier::plain
