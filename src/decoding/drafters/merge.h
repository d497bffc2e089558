// One tree from several drafters, best first.
#pragma once

#include <memory>
#include <span>

#include "decoding/acceptance_rates.h"
#include "decoding/drafters/drafter.h"
#include "decoding/tree.h"

namespace espalier {

struct GrowOptions {
  int32_t root;        // the token of row 0
  int64_t nodes;       // at most, the root included
  int64_t max_depth;   // of a node
  bool costly = true;  // drafters whose guesses take time are asked, too
};

// Takes nodes in descending order of the estimated probability that the model comes by, so the first N of them are
// the best tree of N nodes, and a parent stands before its children. A token that several drafters propose after the
// same path is one node whose score grows with each. All drafters have observed the text up to the root.
void grow_tree(std::span<const std::unique_ptr<Drafter>> drafters, const AcceptanceRates& rates,
               const GrowOptions& options, DraftTree& tree);

}  // namespace espalier
