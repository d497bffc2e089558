// Guesses out of logits.
#pragma once

#include <vector>

#include "decoding/drafters/drafter.h"
#include "kernels/kernels.h"

namespace espalier {

// Appends the likeliest of logits [n] under their softmax, at most `count` of probability `least` or more; `token` is
// the place in `logits`. `scratch` [n] may be `logits` itself.
void add_likeliest(const Kernels& kernels, const float* logits, int64_t n, double least, int64_t count, float* scratch,
                   std::vector<DraftChild>& out);

}  // namespace espalier
