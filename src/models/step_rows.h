// From segments to the flat rows of one step: every check of a step's input stands here.
#pragma once

#include <span>

#include "models/model.h"
#include "models/step_context.h"

namespace espalier {

// Flattens the segments and prepares `output` (pending, row tables) for them. Throws InvalidArgument for an empty
// segment, a token outside the vocabulary, a parent that is not an earlier row, a tree deeper than
// max_tree_depth(), or a position that a mechanism with a growing state cannot have.
StepRows gather_rows(const Model& model, std::span<const Segment> segments, StepOutput& output);

}  // namespace espalier
