// Where drafts come from. A drafter guesses the next tokens of a text; the model decides, so a guess can cost time
// but never change the text.
//
// Drafters are asked node by node: children() of the root, then of the likeliest child, and so on, all drafters at
// the same node (drafters/merge.h). A drafter's position in its own data at a node is a cursor, so that one drafter
// can go on where another had the idea.
#pragma once

#include <cstdint>
#include <vector>

namespace espalier {

// Means something to the drafter that made it alone.
struct DraftCursor {
  int64_t value = 0, extra = 0;
};

struct DraftChild {
  int32_t token;
  float score;  // guessed probability of this token after the parent's path, in (0, 1)
};

// Not thread-safe for observe(); one per sequence.
class Drafter {
 public:
  virtual ~Drafter() = default;

  // Forgets the text.
  virtual void reset() = 0;
  // Every token of the text in order: prompt, then output, the root of the next tree included.
  virtual void observe(int32_t token) = 0;
  // Where it stands after the last observed token.
  virtual DraftCursor root() const = 0;
  // Appends guesses for the token after the cursor's path; at most a few, no token twice.
  virtual void children(DraftCursor cursor, std::vector<DraftChild>& out) const = 0;
  // The cursor one token further, whoever proposed that token.
  virtual DraftCursor advance(DraftCursor cursor, int32_t token) const = 0;
};

}  // namespace espalier
