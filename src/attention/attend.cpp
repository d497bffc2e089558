#include "attention/attend.h"

#include <algorithm>
#include <vector>

namespace espalier {
namespace {

// Rows of one task: they share what is read of the past, so few only where threads would have nothing to do.
constexpr int64_t kMostRowsPerTask = 32, kFewestRowsPerTask = 4;

// Up to so much is prepared sooner than other threads hear of it.
constexpr int64_t kFewPreparedFloats = 16384;

struct Job {
  int64_t head_tasks_before;  // (segment, KV head) tasks of the segments before
  int64_t gate_tasks_before;  // (segment, rows) tasks of the segments before
  int64_t row_tasks_before;   // (segment, KV head, rows) tasks of the segments before
  int64_t rows_per_task;
  float* prepared;  // [Hk][prepared_floats]
  int64_t prepared_floats;
};

}  // namespace

void attend(const Kernels& kernels, ThreadPool& pool, Arena& scratch, const Mechanism& mechanism,
            std::span<const SegmentRows> segments) {
  const Arena::Mark mark = scratch.mark();
  const int heads_kv = mechanism.layout().heads_kv;
  std::vector<Job> jobs;
  int64_t head_tasks = 0, gate_tasks = 0, row_tasks = 0, prepared_floats = 0, scratch_floats = 0;
  for (const SegmentRows& segment : segments) {
    // Two tasks for a thread, or more.
    const int64_t wanted_tiles = (2 * pool.size() + heads_kv - 1) / heads_kv;
    const int64_t rows_per_task =
        std::clamp((segment.rows + wanted_tiles - 1) / wanted_tiles, kFewestRowsPerTask, kMostRowsPerTask);
    const int64_t tiles = (segment.rows + rows_per_task - 1) / rows_per_task;
    const int64_t floats = (mechanism.prepared_floats(segment) + kPanel - 1) / kPanel * kPanel;
    jobs.push_back({head_tasks, gate_tasks, row_tasks, rows_per_task, scratch.floats(floats * heads_kv), floats});
    head_tasks += heads_kv;
    gate_tasks += (segment.rows + kPanel - 1) / kPanel;
    row_tasks += heads_kv * tiles;
    prepared_floats += floats * heads_kv;
    scratch_floats = std::max(scratch_floats, mechanism.scratch_floats(segment));
  }
  scratch_floats = (scratch_floats + kPanel - 1) / kPanel * kPanel;
  float* worker_scratch = scratch.floats(scratch_floats * pool.size());

  const auto make_gates = [&](int64_t task, int) {
    size_t s = jobs.size() - 1;
    while (task < jobs[s].gate_tasks_before) --s;
    const int64_t begin = (task - jobs[s].gate_tasks_before) * kPanel;
    mechanism.make_gates(kernels, segments[s], begin, std::min(segments[s].rows, begin + kPanel));
  };
  const auto prepare = [&](int64_t task, int) {
    const size_t s = static_cast<size_t>(task / heads_kv);
    const int head = static_cast<int>(task % heads_kv);
    mechanism.prepare(kernels, segments[s], head, jobs[s].prepared + head * jobs[s].prepared_floats);
  };
  const auto compute = [&](int64_t task, int worker) {
    size_t s = jobs.size() - 1;
    while (task < jobs[s].row_tasks_before) --s;
    const int64_t own = task - jobs[s].row_tasks_before;
    // Neighbours in time work on different heads: their reads of the past overlap.
    const int head = static_cast<int>(own % heads_kv);
    const int64_t begin = own / heads_kv * jobs[s].rows_per_task;
    const int64_t end = std::min(segments[s].rows, begin + jobs[s].rows_per_task);
    mechanism.attend(kernels, segments[s], head, begin, end, jobs[s].prepared + head * jobs[s].prepared_floats,
                     worker_scratch + worker * scratch_floats);
  };
  if (mechanism.has_gates()) pool.run(gate_tasks, make_gates);
  if (prepared_floats <= kFewPreparedFloats) {
    for (int64_t task = 0; task < head_tasks; ++task) prepare(task, 0);
  } else {
    pool.run(head_tasks, prepare);
  }
  pool.run(row_tasks, compute);
  if (mechanism.finishes()) {
    for (const SegmentRows& segment : segments) {
      for (int64_t r = 0; r < segment.rows; ++r) mechanism.finish(kernels, segment.out + r * segment.out_stride);
    }
  }
  scratch.release(mark);
}

}  // namespace espalier
