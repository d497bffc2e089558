// flash.h's parts in f64, for those who sum them.
#pragma once

#include "attention/flash/flash.h"
#include "attention/shared/plain.h"

namespace espalier::plain {

void flash_local(const FlashLocalOptions& options, const Head& head, int64_t t, double* out);
void flash_global(const FlashGlobalOptions& options, const Head& head, int64_t t, double* out);

}  // namespace espalier::plain
