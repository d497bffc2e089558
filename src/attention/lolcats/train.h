// lolcats.h's mechanisms, training half.
#pragma once

#include "attention/lolcats/lolcats.h"
#include "attention/mechanism_train.h"

namespace espalier {

std::unique_ptr<TrainMechanism> make_train_lolcats(const LolcatsOptions& options);

}  // namespace espalier
