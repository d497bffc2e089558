// The list of model families, which the step half and the training half are made from: a line and a word for each.
#pragma once

#include "models/bert.h"
#include "models/flash.h"
#include "models/gpt2.h"
#include "models/llama.h"
#include "models/t5.h"

namespace espalier {

template <class... Family>
struct FamilyList {};

using Families = FamilyList<Llama, Gpt2, Bert, T5, Flash>;

// One that names two stacks, Encoder and Decoder, and encoder_config().
template <class Family>
concept EncoderDecoderFamily = requires {
  typename Family::Encoder;
};

}  // namespace espalier
