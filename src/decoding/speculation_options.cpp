#include "decoding/speculation_options.h"

#include <string>

#include "core/error.h"

namespace espalier {

SpeculationMode speculation_mode_by_name(std::string_view name) {
  if (name == "off") return SpeculationMode::kOff;
  if (name == "ngram") return SpeculationMode::kNgram;
  if (name == "auto") return SpeculationMode::kAuto;
  throw InvalidArgument(error_text("speculate", "off, ngram or auto", name));
}

void SpeculationOptions::check() const {
  const std::string most = std::to_string(kMaxTreeNodes);
  if (tree_nodes < 0 || tree_nodes > kMaxTreeNodes) {
    throw InvalidArgument(error_text("tree-nodes", "a number in [1, " + most + "]", std::to_string(tree_nodes)));
  }
  if (draft_depth < 1 || draft_depth > kMaxTreeNodes) {
    throw InvalidArgument(error_text("draft-depth", "a number in [1, " + most + "]", std::to_string(draft_depth)));
  }
}

}  // namespace espalier
