// A token tree to be verified: row 0 is the root, the last token of the text; the others are drafts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace espalier {

struct DraftTree {
  std::vector<int32_t> tokens;    // [N]
  std::vector<int32_t> parents;   // [N] parent < own index; -1 for the root
  std::vector<int32_t> depths;    // [N]
  std::vector<double> expected;   // [N] estimated probability that the walk comes by; 1 for the root, descending
  std::vector<int32_t> evidence;  // [N] why it was drafted, see acceptance_rates.h; -1: nothing to learn from

  int64_t size() const { return static_cast<int64_t>(tokens.size()); }

  void reset(int32_t root) {
    resize(0);
    add(root, -1, 1.0, -1);
  }
  void add(int32_t token, int32_t parent, double reach, int32_t why) {
    tokens.push_back(token);
    parents.push_back(parent);
    depths.push_back(parent < 0 ? 0 : depths[static_cast<size_t>(parent)] + 1);
    expected.push_back(reach);
    evidence.push_back(why);
  }
  // Keeps the first N nodes, which are a tree too.
  void resize(int64_t N) {
    tokens.resize(static_cast<size_t>(N));
    parents.resize(static_cast<size_t>(N));
    depths.resize(static_cast<size_t>(N));
    expected.resize(static_cast<size_t>(N));
    evidence.resize(static_cast<size_t>(N));
  }
  // The child of `node` that holds `token`, -1 if none does.
  int32_t child(int32_t node, int32_t token) const {
    for (int32_t n = node + 1; n < size(); ++n) {
      if (parents[static_cast<size_t>(n)] == node && tokens[static_cast<size_t>(n)] == token) return n;
    }
    return -1;
  }
};

}  // namespace espalier
