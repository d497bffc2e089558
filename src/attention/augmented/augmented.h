// `augmented(local=blocked|terraced|none, global=X|none, group=64, taps=32, scale=count|groups|none)`: the augmented
// linear attention of You et al. (ICML 2024).
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
#pragma once

#include <memory>
#include <optional>

#include "attention/flash/flash.h"
#include "attention/operator.h"

namespace espalier {

struct AugmentedOptions {
  int64_t group = kDefaultGroup, taps = 0;
  std::optional<FlashLocalOptions> local = {};
  // The global part: flash_global, or an additive mechanism over closed groups, or none.
  std::optional<FlashGlobalOptions> flash_global = {};
  std::optional<AttentionSpec> additive = {};
  bool alpha = true;  // false: the global part counts once, and there is no such parameter

  static AugmentedOptions of(const AttentionOptions& options);
  bool has_global() const { return flash_global || additive; }
};
std::unique_ptr<Mechanism> make_augmented(const AugmentedOptions& options, const AttentionShape& shape);

// `flash` (flash.h) as such a sum.
AugmentedOptions flash_options(const AttentionOptions& options);

}  // namespace espalier
