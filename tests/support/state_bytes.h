// A sequence's past as bytes: equal pasts have equal bytes.
#pragma once

#include <string>

#include "models/sequence_state.h"

namespace espalier::testing {

inline std::string state_bytes(const SequenceState& state) {
  std::string bytes;
  state.serialize(bytes);
  return bytes;
}

}  // namespace espalier::testing
