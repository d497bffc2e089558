// Prompt look-up: what followed the longest suffixes of the text when they occurred before.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "decoding/drafters/drafter.h"
#include "decoding/drafters/suffix_automaton.h"

namespace espalier {

// Scores are shares of the counted continuations, weighted by how long the match is and mixed with those of the next
// shorter suffixes. Remembers the last kRemembered tokens at least, twice as many at most.
class LookupDrafter : public Drafter {
 public:
  void reset() override;
  void observe(int32_t token) override;
  DraftCursor root() override;
  void children(DraftCursor cursor, double reach, std::vector<DraftChild>& out) override;
  DraftCursor advance(DraftCursor cursor, int32_t token) override;

  static constexpr size_t kRemembered = 32768;

 private:
  SuffixAutomaton automaton_;
  std::vector<int32_t> tokens_;
};

}  // namespace espalier
