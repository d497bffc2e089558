// lolcats.h's mechanisms in f64.
#pragma once

#include "attention/lolcats/lolcats.h"
#include "attention/shared/plain.h"

namespace espalier::plain {

void lolcats(const LolcatsOptions& options, const Parameters& parameters, const Head& head, int64_t t, double* out);

}  // namespace espalier::plain
