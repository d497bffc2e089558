// What a step found.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "models/output.h"
#include "models/sequence_state.h"

namespace espalier {

class StepOutput {
 public:
  // [width(what)] of (segment, row). Valid until the next step with the same workspace. Null if it was not asked for.
  const float* row(Output what, size_t segment, int64_t row) const;
  const float* logits(size_t segment, int64_t row) const { return this->row(Output::kLogits, segment, row); }
  // Of all wanted rows, whatever was asked for: an output is made of it. Null where a model keeps none.
  const float* hidden(size_t segment, int64_t row) const { return this->row(Output::kHidden, segment, row); }
  int64_t width(Output what) const { return of(what).width; }

  std::vector<Pending> pending;  // one per segment

  // For what computes steps: nothing is there yet of `rows` rows, of segments that begin at first_row;
  void start(std::vector<int64_t> first_row, int64_t rows);
  // what a row of all segments' gives, [width].
  void set(Output what, int64_t width, int64_t row, const float* values);

 private:
  struct Values {
    int64_t width = 0;
    std::vector<const float*> rows;  // of all segments; empty: none was asked for
  };
  const Values& of(Output what) const { return outputs_[static_cast<size_t>(what)]; }

  std::array<Values, kOutputs> outputs_;
  std::vector<int64_t> first_row_;  // per segment
  int64_t rows_ = 0;
};

}  // namespace espalier
