// flash.h's parts, training half, for those who sum them.
#pragma once

#include "attention/flash/flash.h"
#include "attention/mechanism_train.h"

namespace espalier {

std::unique_ptr<TrainMechanism> make_train_flash_local(const FlashLocalOptions& options);
std::unique_ptr<TrainMechanism> make_train_flash_global(const FlashGlobalOptions& options);

}  // namespace espalier
