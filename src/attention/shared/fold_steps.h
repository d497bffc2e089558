// The folds that a segment's rows need: the state's own, and one more for each block border that they cross.
//
// A tree stays below (P / block + 2) * block, so it needs at most one, made of committed rows. A chain may cross
// many; its own rows then enter too, by the same fold_rows() and in the same order as when they are committed.
#pragma once

#include <algorithm>
#include <vector>

#include "attention/operator.h"

namespace espalier {

// Rows at positions [begin, end), of the state and then of a chain, side by side: of all heads they are often 4 KiB
// apart, all in the same few cache sets, and a block is read many times.
struct RowCopies {
  RowCopies(const SegmentRows& segment, int kv_head, int64_t begin, int64_t end, bool values_only = false);
  RowCopies(const RowCopies&) = delete;

  std::vector<float> memory;
  FoldRows rows;  // in `memory`
};

int64_t fold_steps_floats(const SegmentRows& segment);
// Those that rows [begin, end) need beside what the rows before them do. Of a chain `steps` holds those of one slice
// (kSlice), again and again; of a tree or where every block has its own fold, all of them. `features`, if given, are
// those of a chain's rows, where fresh_panel_of() puts their panels: FoldRows::features.
void make_fold_steps(const Kernels& kernels, const Mechanism& mechanism, const SegmentRows& segment, int kv_head,
                     int64_t begin, int64_t end, float* steps, const float* features = nullptr);
// One of them, [0, borders), after those before it: for a mechanism whose rows depend on the folds before them. Its
// fold_rows() may get a chain's rows where they lie, if it reads each of them once.
enum class RowAccess { kCopies, kInPlace };
void make_fold_step(const Kernels& kernels, const Mechanism& mechanism, const SegmentRows& segment, int kv_head,
                    int64_t step, float* steps, RowAccess access = RowAccess::kCopies, const float* features = nullptr);
// How many of them a node at `position` needs.
int64_t fold_steps_before(const SegmentRows& segment, int64_t position);
// The fold that a node at `position` reads.
const float* fold_for(const SegmentRows& segment, int kv_head, int64_t position, const float* steps);

// Calls body(first, last, fold) for runs of rows [begin, end) that read the same fold, at most `together` in each.
template <class Body>
void each_run_of_fold(const SegmentRows& segment, int kv_head, int64_t begin, int64_t end, int64_t together,
                      const float* steps, Body&& body) {
  const int64_t block = segment.state->layout().block;
  for (int64_t first = begin; first < end;) {
    const int64_t position = segment.position(first), index = position / block;
    const float* fold = fold_for(segment, kv_head, position, steps);
    int64_t last = first + 1;
    if (segment.chain) {
      last = std::min({end, first + together, first + (index + 1) * block - position});
    } else {
      while (last < end && last - first < together && segment.position(last) / block == index) ++last;
    }
    body(first, last, fold);
    first = last;
  }
}

// Queries that go over a fold together, and how many there are at most when a KV head has this many query heads.
inline constexpr int kQueriesTogether = 16;
inline int64_t most_queries(const AttentionShape& shape) {
  return std::max(kQueriesTogether, shape.heads_per_kv());
}

// The sum over a fold: out [queries][Dv], out_stride apart (0: without gaps), of weights [queries][features] . fold
// [features][Dv], features in turn.
struct FoldSum {
  const float* weights;
  int64_t features, queries;
  const float* fold;
  int64_t dim_v;
  float* out;
  int64_t out_stride = 0;

  WeightedSum over_rows() const {
    return {.weights = weights,
            .weight_stride = features,
            .queries = queries,
            .rows = fold,
            .count = features,
            .row_stride = dim_v,
            .dim = dim_v,
            .out = out,
            .out_stride = out_stride > 0 ? out_stride : dim_v};
  }
};
// out += the sum.
inline void add_fold(const Kernels& kernels, const FoldSum& sum) {
  kernels.weighted_sum(sum.over_rows());
}
// out = the sum.
inline void read_fold(const Kernels& kernels, const FoldSum& sum) {
  WeightedSum rows = sum.over_rows();
  rows.from_zero = true;
  kernels.weighted_sum(rows);
}

// fold [features][Dv] = factor * before, and += phi_j v_j^T for the rows in turn; phi [rows.count][features].
void add_outer_products(const Kernels& kernels, const float* phi, int64_t features, const FoldRows& rows, int64_t dim_v,
                        const float* before, float factor, float* fold);

// A fold of S [features][Dv] and z [features]: S += phi_j v_j^T, z += phi_j, rows in turn; phi [rows.count][features].
void add_features(const Kernels& kernels, const float* phi, int64_t features, const FoldRows& rows, int64_t dim_v,
                  const float* before, float* fold);
// The same from rows.features.
void add_prepared_features(const Kernels& kernels, const FoldRows& rows, int64_t features, int64_t dim_v,
                           const float* before, float* fold);

}  // namespace espalier
