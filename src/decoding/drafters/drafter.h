// Where drafts come from. A drafter guesses the next tokens of a text; the model decides, so a guess can cost time
// but never change the text.
//
// Drafters are asked node by node: children() of the root, then of the likeliest child, and so on, all drafters at
// the same node (drafters/merge.h). A drafter's position in its own data at a node is a cursor, so that one drafter
// can go on where another had the idea.
#pragma once

#include <algorithm>
#include <cstddef>
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

// Sorts out[first …] by descending score, and keeps `count` of them at most.
inline void keep_likeliest(std::vector<DraftChild>& out, size_t first, size_t count) {
  std::stable_sort(out.begin() + static_cast<std::ptrdiff_t>(first), out.end(),
                   [](const DraftChild& a, const DraftChild& b) { return a.score > b.score; });
  if (out.size() > first + count) out.resize(first + count);
}

// Not thread-safe; one per sequence.
class Drafter {
 public:
  virtual ~Drafter() = default;

  // Whether guessing takes time that counts beside a step.
  virtual bool costly() const { return false; }
  // Forgets the text.
  virtual void reset() = 0;
  // Every token of the text in order: prompt, then output, the root of the next tree included.
  virtual void observe(int32_t token) = 0;
  // The model's last hidden state [d], after the final norm, of the row that the newest observed token was drawn from.
  virtual void see(const float* /*hidden*/) {}
  // Where it stands after the last observed token. Cursors of before are of no use any more.
  virtual DraftCursor root() = 0;
  // Appends guesses for the token after the cursor's path; at most a few, no token twice. `reach` is the estimated
  // probability that the model comes by: where guessing costs time, a drafter may see that it is not worth it.
  virtual void children(DraftCursor cursor, double reach, std::vector<DraftChild>& out) = 0;
  // The cursor one token further, whoever proposed that token.
  virtual DraftCursor advance(DraftCursor cursor, int32_t token) = 0;
};

}  // namespace espalier
