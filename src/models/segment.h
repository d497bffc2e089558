// The question that a step answers: rows after a state, who of them sees whom, and what is wanted of which.
#pragma once

#include <cstdint>
#include <span>

#include "models/output.h"
#include "models/sequence_state.h"

namespace espalier {

enum class Mask {
  kOwn,   // as the model was made: an encoder's rows are a span, a decoder's a tree
  kTree,  // a row sees the state, its ancestors and itself
  kSpan,  // a row sees the state and all rows of the segment, which are not to be committed
};

// Which rows' outputs are wanted.
enum class Wanted { kNone, kFirst, kLast, kAll, kListed };

struct Segment {
  const SequenceState* state = nullptr;
  std::span<const int32_t> tokens;        // [R >= 1] ids, or
  std::span<const float> vectors = {};    // [R, d] rows in place of those of the embedding table
  std::span<const int32_t> parents = {};  // [R] index of the parent, -1 for the state, parent < own index; empty: a
                                          // chain, as a span's rows are
  Mask mask = Mask::kOwn;
  Wanted wanted = Wanted::kAll;
  std::span<const int32_t> listed = {};  // rows, ascending, for Wanted::kListed
  OutputSet outputs = Output::kLogits;
  std::span<const int32_t> token_types = {};  // [R], of models that have them; empty: all 0
};

}  // namespace espalier
