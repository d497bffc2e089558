// `hybrid(group=64, sinks=4)`: a softmax window for what is near, the gated delta rule for what is far.
//
//   y = window(group, sinks) + alpha_h * gated_delta
//
// The window is lolcats.h's, two groups and the first rows of the text; the delta rule (decay.h) sees every row. alpha,
// one number per query head, starts at 0: untrained it is the window. Both read the same rows, so k and v are kept
// once: the delta rule's fold block is the group, and its rows' own numbers stand beside them.
// Parameters: hybrid.alpha [H], then gated_delta's.
#pragma once

#include <memory>

#include "attention/operator.h"

namespace espalier {

std::unique_ptr<Mechanism> make_hybrid(const AttentionSpec& spec, const AttentionShape& shape);

// The parts' SPECs.
AttentionSpec hybrid_window(const AttentionSpec& spec);
AttentionSpec hybrid_memory(const AttentionSpec& spec);

}  // namespace espalier
