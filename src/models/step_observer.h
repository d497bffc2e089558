// Looks on while a step attends: for attribution and for tests.
#pragma once

#include <cstddef>
#include <cstdint>

namespace espalier {

struct SegmentRows;

// Called on the thread that steps. What it is shown may not be changed, and is gone when the call returns.
class StepObserver {
 public:
  virtual ~StepObserver() = default;

  // A layer has attended: `rows` holds the segment's state, q [R, H, Dk] and k [R, Hk, Dk] after rotary, v [R, Hk, Dv]
  // and the result, rows.out [R, H, Dv].
  virtual void attended(int64_t layer, size_t segment, const SegmentRows& rows) = 0;
  // The same of attention over a source: rows.state holds the source's keys and values.
  virtual void attended_source(int64_t /*layer*/, size_t /*segment*/, const SegmentRows& /*rows*/) {}
};

}  // namespace espalier
