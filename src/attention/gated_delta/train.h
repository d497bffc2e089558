// gated_delta.h's rule, training half.
#pragma once

#include "attention/gated_delta/gated_delta.h"
#include "attention/mechanism_train.h"

namespace espalier {

std::unique_ptr<TrainMechanism> make_train_gated_delta(const GatedDeltaOptions& options);

}  // namespace espalier
