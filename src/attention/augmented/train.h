// augmented.h's sum, training half.
#pragma once

#include "attention/augmented/augmented.h"
#include "attention/mechanism_train.h"

namespace espalier {

std::unique_ptr<TrainMechanism> make_train_augmented(const AugmentedOptions& options, const AttentionShape& shape);

}  // namespace espalier
