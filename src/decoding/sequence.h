// A request on its way through an engine (decoding/engine.h): what its next step holds, and what the step's outcome
// means for it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "models/segment.h"
#include "models/step_output.h"

namespace espalier {

struct StepLimits {
  int64_t prompt_rows;  // rows of a prompt that this sequence may put into the step; 0: it waits
  int64_t sequences;    // that take part in the step
};

// Owns its request and its states. Not thread-safe; an engine calls it on the thread that steps.
class Sequence {
 public:
  virtual ~Sequence() = default;

  virtual bool finished() const = 0;
  // Whether the prompt is in: every further step goes on with the text.
  virtual bool decoding() const = 0;
  // Ends it; what is there stays.
  virtual void cancel() = 0;

  // Appends the segments of its next step, none when it waits for its prompt's turn. They are valid until take().
  virtual void plan(const StepLimits& limits, std::vector<Segment>& segments) = 0;
  // What the step gave for these segments, of which `first` was the first; not called when there were none.
  virtual void take(const StepOutput& output, size_t first) = 0;
  // The step that it took last was so long.
  virtual void spend(double /*ms*/) {}
};

}  // namespace espalier
