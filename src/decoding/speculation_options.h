// What a caller can ask of speculation. None of it can change the text.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "decoding/drafters/drafter.h"

namespace espalier {

enum class SpeculationMode {
  kOff,
  kNgram,  // prompt look-up, and the static n-gram table when there is one
  kAuto,   // these, a trained head and a small model, as far as they are at hand
};

// "off", "ngram", "auto"; throws InvalidArgument listing the names.
SpeculationMode speculation_mode_by_name(std::string_view name);

struct SpeculationOptions {
  SpeculationMode mode = SpeculationMode::kOff;
  // Nodes of every tree, the root included, as far as drafters have proposals. 0: chosen at each step so that the
  // expected tokens per second are greatest, by measured step times; one node is a legal choice.
  int64_t tree_nodes = 0;
  int64_t draft_depth = 24;  // tokens ahead of the root at most
  // Other drafters than the mode's.
  std::function<std::vector<std::unique_ptr<Drafter>>()> make_drafters;

  // Throws InvalidArgument naming the option and its range.
  void check() const;
};

inline constexpr int64_t kMaxTreeNodes = 64;

}  // namespace espalier
