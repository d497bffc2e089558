// The filter of conv.h in f64, for those who add one.
#pragma once

#include "attention/shared/plain.h"

namespace espalier::plain {

// out += y_t; the weight is the last of `parameters`. No taps: nothing.
void conv(int64_t taps, const Parameters& parameters, const Head& head, int64_t t, double* out);

}  // namespace espalier::plain
