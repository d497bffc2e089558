// How often drafts of a kind turn out right, learned while decoding.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace espalier {

// A draft's kind is who proposed it (a set of drafters), how sure they were, and how deep it stands. Its rate starts
// at the drafters' own score and moves to what is observed; old observations fade. Fixed size. Not thread-safe.
class AcceptanceRates {
 public:
  static constexpr int kMaxDrafters = 4;

  // The kind of a draft; `score` in (0, 1), `drafters` a bit set below 2^kMaxDrafters.
  static int32_t kind(uint32_t drafters, double score, int64_t depth);
  double rate(int32_t kind, double score) const;
  // The model came to the draft's parent, and chose the draft or not.
  void record(int32_t kind, bool accepted);

 private:
  static constexpr int kScores = 12, kDepths = 4;
  struct Count {
    float tried = 0, accepted = 0;
  };
  std::array<Count, (size_t{1} << kMaxDrafters) * kScores * kDepths> counts_;
};

}  // namespace espalier
