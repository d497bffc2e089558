// `hybrid(group=64, sinks=4)`: a softmax window for what is near, the gated delta rule for what is far.
//
//   y = window(group, sinks) + alpha_h * gated_delta
//
// The window is lolcats/lolcats.h's, two groups and the first rows of the text; the delta rule
// (gated_delta/gated_delta.h) sees every row. alpha, one number per query head, starts at 0: untrained it is the
// window. Both read the same rows, so k and v are kept once: the delta rule's fold block is the group, and its rows'
// own numbers stand beside them. Parameters: hybrid.alpha [H], then gated_delta's.
#pragma once

#include "attention/gated_delta/gated_delta.h"
#include "attention/lolcats/lolcats.h"

namespace espalier {

struct HybridOptions {
  LolcatsOptions window;
  GatedDeltaOptions memory;

  static HybridOptions of(const AttentionOptions& options);
};

}  // namespace espalier
