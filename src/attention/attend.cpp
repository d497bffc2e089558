#include "attention/attend.h"

#include <algorithm>
#include <vector>

#include "attention/shared/visible_rows.h"

namespace espalier {
namespace {

// Rows of one task: they share what is read of the past, so few only where threads would have nothing to do.
constexpr int64_t kMostRowsPerTask = 32, kFewestRowsPerTask = 4;
// Up to so many rows go over tiles of the past together, where what the tiles leave for them takes no more than 16 MB.
constexpr int64_t kMostTileRows = 32, kMostFoundFloats = int64_t{4} << 20;

// Up to so much is prepared sooner than other threads hear of it.
constexpr int64_t kFewPreparedFloats = 16384;

// Rows of a span see later ones, so all are prepared first.
bool in_slices(const SegmentRows& segment) {
  return segment.chain && !segment.span;
}

// Rows [begin, end) of a segment, all KV heads.
struct Job {
  size_t segment;
  int64_t begin, end;
  int64_t tasks_before;  // (KV head, rows) tasks of the jobs before
  int64_t rows_per_task;
};

struct PastTiles {
  int64_t tiles;
  float* prepared;  // [Hk][prepared_floats]
  int64_t prepared_floats;
  float* worker_scratch;  // [workers][scratch_floats]
  int64_t scratch_floats;
};

// Tiles of the past are shared out, and each is read once.
void attend_past_tiles(const Kernels& kernels, ThreadPool& pool, Arena& scratch, const Mechanism& mechanism,
                       const SegmentRows& segment, const PastTiles& past) {
  const int heads_kv = mechanism.layout().heads_kv;
  const int64_t floats = mechanism.tile_floats(segment);
  float* found = scratch.floats(heads_kv * past.tiles * floats);  // [Hk][tiles][floats]
  const auto prepared_of = [&](int64_t head) { return past.prepared + head * past.prepared_floats; };
  const auto each_head = [&](bool on_all_threads, auto&& body) {
    if (on_all_threads) return pool.run(heads_kv, [&](int64_t head, int) { body(static_cast<int>(head)); });
    for (int head = 0; head < heads_kv; ++head) body(head);
  };
  each_head(heads_kv * past.prepared_floats > kFewPreparedFloats,
            [&](int head) { mechanism.prepare(kernels, segment, head, 0, segment.rows, prepared_of(head)); });
  pool.run(heads_kv * past.tiles, [&](int64_t task, int worker) {
    const int64_t head = task / past.tiles;
    mechanism.attend_tile(kernels, segment, static_cast<int>(head), task % past.tiles, prepared_of(head),
                          past.worker_scratch + worker * past.scratch_floats, found + task * floats);
  });
  each_head(segment.rows > 1, [&](int head) {
    mechanism.merge_tiles(kernels, segment, head, past.tiles, found + head * past.tiles * floats);
  });
}

}  // namespace

double row_multiply_adds(const StateLayout& layout, const AttentionShape& shape, int64_t position) {
  const double fold = static_cast<double>(layout.fold_floats);
  const double open = layout.bounded() ? (static_cast<double>(layout.lag) + 0.5) * static_cast<double>(layout.block)
                                       : static_cast<double>(position);
  const double seen = std::max(open, static_cast<double>(layout.tail) + 1.0);
  return shape.heads * (fold + seen * (shape.dim_k + shape.dim_v)) + shape.heads_kv * fold;
}

void attend(const Kernels& kernels, ThreadPool& pool, Arena& scratch, const Mechanism& mechanism,
            std::span<const SegmentRows> segments) {
  const Arena::Mark mark = scratch.mark();
  const StateLayout layout = mechanism.layout();
  const int heads_kv = layout.heads_kv;
  struct Prepared {
    float* memory;  // [Hk][floats]
    int64_t floats;
  };
  std::vector<Prepared> prepared;
  std::vector<int64_t> gate_tasks_before;  // (segment, rows) tasks of the segments before
  int64_t gate_tasks = 0, prepared_floats = 0, scratch_floats = 0, most_rows = 0;
  for (const SegmentRows& segment : segments) {
    const int64_t floats = (mechanism.prepared_floats(segment) + kPanel - 1) / kPanel * kPanel;
    prepared.push_back({scratch.floats(floats * heads_kv), floats});
    gate_tasks_before.push_back(gate_tasks);
    gate_tasks += (segment.rows + kPanel - 1) / kPanel;
    prepared_floats += floats * heads_kv;
    scratch_floats = std::max(scratch_floats, mechanism.scratch_floats(segment));
    most_rows = std::max(most_rows, segment.rows);
  }
  scratch_floats = (scratch_floats + kPanel - 1) / kPanel * kPanel;
  float* worker_scratch = scratch.floats(scratch_floats * pool.size());
  const auto prepared_of = [&](size_t segment, int head) {
    return prepared[segment].memory + head * prepared[segment].floats;
  };

  if (mechanism.has_gates()) {
    pool.run(gate_tasks, [&](int64_t task, int) {
      size_t s = segments.size() - 1;
      while (task < gate_tasks_before[s]) --s;
      const int64_t begin = (task - gate_tasks_before[s]) * kPanel;
      mechanism.make_gates(kernels, segments[s], begin, std::min(segments[s].rows, begin + kPanel));
    });
  }
  // A row alone reads each tile once either way: it gains where KV heads are too few for the threads to have equal
  // shares.
  const bool gains = most_rows == 1 ? pool.size() > 1 && heads_kv < 2 * pool.size() : most_rows <= kMostTileRows;
  const int64_t past_tiles = segments.size() == 1 && gains ? mechanism.past_tiles(segments[0]) : 0;
  const bool by_tiles =
      past_tiles > 1 && heads_kv * past_tiles * mechanism.tile_floats(segments[0]) <= kMostFoundFloats;
  if (by_tiles) {
    attend_past_tiles(kernels, pool, scratch, mechanism, segments[0],
                      {past_tiles, prepared[0].memory, prepared[0].floats, worker_scratch, scratch_floats});
  }
  std::vector<Job> jobs;
  for (int64_t slice = 0; !by_tiles && slice < most_rows; slice += kSlice) {
    jobs.clear();
    int64_t tasks = 0;
    for (size_t s = 0; s < segments.size(); ++s) {
      const SegmentRows& segment = segments[s];
      if (slice >= segment.rows || (slice > 0 && !in_slices(segment))) continue;
      const int64_t end = in_slices(segment) ? std::min(segment.rows, slice + kSlice) : segment.rows,
                    rows = end - slice;
      // Two tasks for a thread, or more.
      const int64_t wanted_tiles = (2 * pool.size() + heads_kv - 1) / heads_kv;
      const int64_t rows_per_task =
          std::clamp((rows + wanted_tiles - 1) / wanted_tiles, kFewestRowsPerTask, kMostRowsPerTask);
      jobs.push_back({s, slice, end, tasks, rows_per_task});
      tasks += heads_kv * ((rows + rows_per_task - 1) / rows_per_task);
    }
    if (jobs.empty()) break;
    const auto prepare = [&](int64_t task, int) {
      const Job& job = jobs[static_cast<size_t>(task / heads_kv)];
      const int head = static_cast<int>(task % heads_kv);
      const SegmentRows& segment = segments[job.segment];
      if (segment.keys) {
        ask_for_rows(segment.k + head * layout.dim_k, segment.k_stride, layout.dim_k, job.begin, job.end);
        ask_for_rows(segment.v + head * layout.dim_v, segment.v_stride, layout.dim_v, job.begin, job.end);
      }
      mechanism.prepare(kernels, segment, head, job.begin, job.end, prepared_of(job.segment, head));
    };
    const auto compute = [&](int64_t task, int worker) {
      size_t j = jobs.size() - 1;
      while (task < jobs[j].tasks_before) --j;
      const Job& job = jobs[j];
      const int64_t own = task - job.tasks_before;
      // A thread's tasks follow each other: those of one head find its past in the cache.
      const int64_t tiles = (job.end - job.begin + job.rows_per_task - 1) / job.rows_per_task;
      const int head = static_cast<int>(own / tiles);
      const int64_t begin = job.begin + own % tiles * job.rows_per_task;
      mechanism.attend(kernels, segments[job.segment], head, begin, std::min(job.end, begin + job.rows_per_task),
                       prepared_of(job.segment, head), worker_scratch + worker * scratch_floats);
    };
    const int64_t head_tasks = static_cast<int64_t>(jobs.size()) * heads_kv;
    if (prepared_floats <= kFewPreparedFloats) {
      for (int64_t task = 0; task < head_tasks; ++task) prepare(task, 0);
    } else {
      pool.run(head_tasks, prepare);
    }
    pool.run(tasks, compute);
  }
  if (mechanism.finishes()) {
    for (const SegmentRows& segment : segments) {
      for (int64_t r = 0; r < segment.rows; ++r) mechanism.finish(kernels, segment.out + r * segment.out_stride);
    }
  }
  scratch.release(mark);
}

}  // namespace espalier
