// Random token trees with real branching.
#pragma once

#include <cstdint>
#include <vector>

#include "core/rng.h"

namespace espalier::testing {

struct TestTree {
  std::vector<int32_t> tokens, parents;

  int64_t size() const { return static_cast<int64_t>(tokens.size()); }
  // Row indices from the root to `node`.
  std::vector<int32_t> path(int32_t node) const {
    std::vector<int32_t> reversed;
    for (int32_t n = node; n >= 0; n = parents[static_cast<size_t>(n)]) reversed.push_back(n);
    return {reversed.rbegin(), reversed.rend()};
  }
  std::vector<int32_t> tokens_along(const std::vector<int32_t>& path) const {
    std::vector<int32_t> along;
    for (const int32_t n : path) along.push_back(tokens[static_cast<size_t>(n)]);
    return along;
  }
};

// `nodes` rows; a parent is one of the rows before, recent ones more often, so that depth and breadth both occur.
// No node is deeper than `max_depth`.
inline TestTree random_tree(int64_t nodes, int64_t max_depth, int64_t vocab_size, Random& random) {
  TestTree tree;
  std::vector<int64_t> depth;
  for (int64_t n = 0; n < nodes; ++n) {
    int64_t parent = n - 1;
    if (n > 0 && random.uniform() < 0.5) parent = random.below(n);
    while (parent > 0 && depth[static_cast<size_t>(parent)] + 1 > max_depth) parent = tree.parents[parent];
    if (n > 0 && depth[static_cast<size_t>(parent)] + 1 > max_depth) break;
    tree.tokens.push_back(static_cast<int32_t>(random.below(vocab_size)));
    tree.parents.push_back(static_cast<int32_t>(parent));
    depth.push_back(parent < 0 ? 0 : depth[static_cast<size_t>(parent)] + 1);
  }
  return tree;
}

// As deep as `depth` exactly, by two paths that part at the root, and `more` leaves anywhere above that. The paths grow
// in turns drawn at random, so that a node's index says nothing of its depth.
inline TestTree deep_tree(int64_t depth, int64_t more, int64_t vocab_size, Random& random) {
  TestTree tree;
  std::vector<int64_t> depths;
  const auto add = [&](int32_t parent) {
    tree.tokens.push_back(static_cast<int32_t>(random.below(vocab_size)));
    tree.parents.push_back(parent);
    depths.push_back(parent < 0 ? 0 : depths[static_cast<size_t>(parent)] + 1);
    return static_cast<int32_t>(tree.size() - 1);
  };
  int32_t tips[2] = {add(-1), 0};
  const auto grows = [&](int32_t tip) { return depths[static_cast<size_t>(tip)] < depth; };
  while (grows(tips[0]) || grows(tips[1])) {
    const auto turn = random.below(more > 0 ? 3 : 2);
    if (turn < 2) {
      if (grows(tips[turn])) tips[turn] = add(tips[turn]);
      continue;
    }
    --more;
    const auto parent = static_cast<int32_t>(random.below(tree.size()));
    if (grows(parent)) add(parent);
  }
  return tree;
}

}  // namespace espalier::testing
