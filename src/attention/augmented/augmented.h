// `augmented(local=blocked|terraced|none, global=X|none, group=64, taps=32, scale=count|groups|none)`: the augmented
// linear
// attention of You et al. (ICML 2024).
//
//   y = local + alpha * global + conv
//
// a sum of finished outputs: flash_local, a global part over closed groups, and conv over the same rows. X is
// flash_global (the default, with `scale`) or any additive mechanism with its options, e.g. performer(features=64).
// alpha is one number per layer and starts at 0. local=none, global=none and taps=0 leave their part out (the paper's
// ablations).
// Parameters: augmented.alpha [1] and X's (with a global part), conv.weight [H, W] (with taps).
//
// Of a span the parts are those of spans, X sees all rows, and the filters look both ways.
//
// `flash(group=64, local=blocked|terraced, scale=count|groups|none)` (Hua et al. 2022) is flash_local + flash_global:
// the same with alpha = 1 and no conv.
#pragma once

#include <memory>

#include "attention/operator.h"

namespace espalier {

std::unique_ptr<Mechanism> make_augmented(const AttentionSpec& spec, const AttentionShape& shape);
std::unique_ptr<Mechanism> make_flash(const AttentionSpec& spec, const AttentionShape& shape);
AttentionSpec flash_as_augmented(const AttentionSpec& spec);

}  // namespace espalier
