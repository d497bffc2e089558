#include "models/step_output.h"

namespace espalier {

const float* StepOutput::row(Output what, size_t segment, int64_t row) const {
  const std::vector<const float*>& rows = of(what).rows;
  return rows.empty() ? nullptr : rows[static_cast<size_t>(first_row_[segment] + row)];
}

void StepOutput::start(std::vector<int64_t> first_row, int64_t rows) {
  first_row_ = std::move(first_row);
  rows_ = rows;
  for (Values& values : outputs_) {
    values.width = 0;
    values.rows.clear();
  }
}

void StepOutput::set(Output what, int64_t width, int64_t row, const float* values) {
  Values& own = outputs_[static_cast<size_t>(what)];
  own.width = width;
  own.rows.resize(static_cast<size_t>(rows_), nullptr);
  own.rows[static_cast<size_t>(row)] = values;
}

}  // namespace espalier
