// `augmented(local=blocked|terraced|none, global=flash_global|none, group=64, taps=32, scale=count|none)`: the
// augmented linear attention of You et al. (ICML 2024).
//
//   y = local + alpha * global + conv
//
// a sum of finished outputs: flash_local, flash_global and conv over the same rows. alpha is one number per layer and
// starts at 0. local=none, global=none and taps=0 leave their part out (the paper's ablations).
// Parameters: augmented.alpha [1] (with a global part), conv.weight [H, W] (with taps).
#pragma once

#include <memory>

#include "attention/operator.h"

namespace espalier {

std::unique_ptr<Mechanism> make_augmented(const AttentionSpec& spec, const AttentionShape& shape);

}  // namespace espalier
