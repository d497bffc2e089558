// augmented.h's sum in f64.
#pragma once

#include "attention/augmented/augmented.h"
#include "attention/shared/plain.h"

namespace espalier::plain {

void augmented(const AugmentedOptions& options, const Parameters& parameters, const Head& head, int64_t t, double* out);

}  // namespace espalier::plain
