// The rows that a tree node sees: committed rows of the state, then its ancestors and itself, in position order.
//
// Shared by all mechanisms. Nothing here depends on where the past was cut: a row's scores are indexed by
// position, and sums run over positions in ascending order.
#pragma once

#include <algorithm>
#include <cstdint>

#include "attention/operator.h"

namespace espalier {

// Panels of a segment's new rows that there is memory for: all; of a chain behind a bounded state those of a slice and
// of the rows that it looks back at, in turn, so that they stay in the cache.
int64_t fresh_panels(const SegmentRows& segment);
// Where the panel of a row stands among them.
inline int64_t fresh_panel_of(const SegmentRows& segment, int64_t row) {
  return row / kPanel % fresh_panels(segment);
}
// Panels [dim_k][16] of a segment's new keys for one KV head, where fresh_panel_of() says; the unused lanes are zero.
// Made for rows [begin, end) where begin is a multiple of 16.
int64_t fresh_panels_floats(const SegmentRows& segment);
void make_fresh_panels(const SegmentRows& segment, int kv_head, int64_t begin, int64_t end, float* panels);

// Asks for a head's part of rows [begin, end) into the second-level cache: each lies alone, thousands of bytes after
// the one before it, where no hardware looks ahead.
inline void ask_for_rows(const float* rows, int64_t stride, int64_t floats, int64_t begin, int64_t end) {
  constexpr int64_t kLineFloats = 16;
  for (int64_t row = begin; row < end; ++row) {
    for (int64_t i = 0; i < floats; i += kLineFloats) __builtin_prefetch(rows + row * stride + i, 0, 2);
  }
}

// Rows [count][dim], `stride` floats apart, into lanes [lane, lane + count) of a panel [dim][16]; where lane is 0 and
// count below 16, zeros into the others.
void rows_to_panel(const float* rows, int64_t stride, int64_t lane, int64_t count, int64_t dim, float* panel);

// Panels [dim][16] that scores are taken from: keys, or what a mechanism makes of them.
struct KeyPanels {
  const float* fresh;  // of the segment's rows
  int64_t dim;
  const float* committed = nullptr;  // of committed rows, from the panel of first_row() on; null: the state's keys
  int64_t first = 0, panel_dim = 0;  // dimensions [first, first + dim) of panels that have panel_dim; 0: dim

  int64_t floats() const { return kPanel * (panel_dim > 0 ? panel_dim : dim); }  // of a panel
};

// A node's path and the positions [begin, end) that it looks at.
class VisibleRows {
 public:
  // `path` is memory for segment.rows ids; unused for a chain. Initially [0, position of `row` + 1).
  VisibleRows(const SegmentRows& segment, int kv_head, int64_t row, int32_t* path);

  int64_t position() const { return position_; }
  int64_t end() const { return end_; }
  // Looks at [begin, end), clipped to what there is.
  VisibleRows range(int64_t begin, int64_t end) const;
  // Takes the segment's values of this KV head from [R][Dv], without gaps, instead of where they lie; null: no change.
  VisibleRows with_values(const float* values) const;
  int64_t begin() const { return begin_; }
  int64_t count() const { return end_ - begin_; }

  // scores[i * stride + j] = q_i . k at position begin + j, for `queries` queries of the KV head. `temporary` holds
  // queries * 16 floats. fresh_panels: make_fresh_panels()'s.
  void scores(const Kernels& kernels, const float* const* q, int queries, const float* fresh_panels, float* temporary,
              float* scores, int64_t stride) const;
  void scores(const Kernels& kernels, const float* const* q, int queries, const KeyPanels& panels, float* temporary,
              float* scores, int64_t stride) const;
  // out_i[c] = fma(weights_i[j], v[begin + j][c], out_i[c]), j ascending, for `queries` queries: weights
  // [queries][count()], weight_stride apart, out [queries][Dv] without gaps. With `stagger`, of a chain's rows from the
  // newest that the first query sees: one row more for each further `stagger` queries.
  void weighted_sum(const Kernels& kernels, const float* weights, int64_t weight_stride, int queries, float* out,
                    int64_t stagger = 0) const;
  // The same over the first Dv floats of what the mechanism keeps beside each row, outputs out_stride apart.
  void weighted_extra_sum(const Kernels& kernels, const float* weights, int64_t weight_stride, int queries, float* out,
                          int64_t out_stride, int64_t stagger = 0) const;
  // What the mechanism keeps beside the row at `position`, [dim_extra].
  const float* extra(int64_t position) const;
  void copy_k(int64_t position, float* out) const;  // [Dk]
  // squares[j] = |k at begin + j|^2.
  void key_squares(const Kernels& kernels, const float* fresh_panels, float* squares) const;

 private:
  int64_t base() const { return segment_.state->length(); }
  int64_t row_at(int64_t position) const { return path_ ? path_[position - base()] : position - base(); }
  // Rows of values: of the state from a position on, of the segment; so many floats apart.
  struct Values {
    const float* (LayerState::*committed)(int kv_head, int64_t position) const;
    const float* fresh;
    int64_t committed_stride, fresh_stride;
  };
  void weighted_sum(const Kernels& kernels, const Values& values, const float* weights, int64_t weight_stride,
                    int queries, float* out, int64_t out_stride, int64_t stagger) const;
  template <class Panel>
  void each_panel(const KeyPanels& panels, Panel&& panel) const;

  const SegmentRows& segment_;
  int kv_head_;
  int64_t position_;
  const int32_t* path_;  // row by depth; null for a chain
  const float* values_ = nullptr;
  int64_t begin_, end_;
};

// Positions before this one are seen by all of a segment's rows [first, …) that follow each other as a chain does, or
// by all nodes of a tree, or by all rows of a span.
inline int64_t seen_by_all(const SegmentRows& segment, int64_t first) {
  if (segment.span) return segment.seen_end(first);
  return segment.chain ? segment.position(first) : segment.state->length();
}

// Query heads of one KV head in one row.
struct QueryHeads {
  QueryHeads(const SegmentRows& segment, int heads, int kv_head, int64_t row, int64_t dim_k) {
    for (int h = 0; h < heads; ++h) q[h] = segment.q + row * segment.q_stride + (kv_head * heads + h) * dim_k;
  }
  const float* q[kMaxHeadsPerKv];
};

// out [count][dim] = x * (1 / divisors[count])
inline void divide_rows(const Kernels& kernels, const float* x, const float* divisors, int64_t count, int64_t dim,
                        float* out) {
  for (int64_t i = 0; i < count; ++i) kernels.scale(x + i * dim, 1.0f / divisors[i], dim, out + i * dim);
}

// Rows [begin, end) of a segment with all query heads of a KV head, heads of a row side by side, over positions from
// window_begin on: what all of them see together, the rest along each row's path. A chain's rows share that, too.
class RowRun {
 public:
  // At most kMaxHeadsPerKv queries. `path` is memory for segment.rows ids.
  RowRun(const SegmentRows& segment, int kv_head, int heads, int64_t begin, int64_t end, int64_t window_begin,
         int32_t* path);

  int queries() const { return queries_; }
  const float* const* q() const { return q_; }
  // scores[i * stride + j] = q_i . k at position window_begin + j. A chain's rows get those of its last one's
  // positions.
  void scores(const Kernels& kernels, const KeyPanels& panels, float* temporary, float* scores, int64_t stride) const;
  // out_i += sum of weights[i * stride + j] v at window_begin + j over the positions that i sees; out [queries][Dv].
  void weighted_sum(const Kernels& kernels, const float* weights, int64_t stride, float* out) const;
  // Calls body(first query, queries, positions that the first one sees, stagger): query i of them sees i / stagger
  // more, where that is not 0.
  template <class Body>
  void each_length(Body&& body) const {
    if (segment_.chain) return body(0, queries_, segment_.seen_end(begin_) - window_begin_, heads_);
    for (int64_t row = begin_; row < end_; ++row) {
      body(static_cast<int>(row - begin_) * heads_, heads_, segment_.seen_end(row) - window_begin_, 0);
    }
  }

 private:
  // Calls body(rows, first query, queries) for positions that some queries share.
  template <class Body>
  void each_part(Body&& body) const;

  const SegmentRows& segment_;
  int kv_head_, heads_, queries_;
  int64_t begin_, end_, window_begin_;
  int32_t* path_;
  const float* q_[kMaxHeadsPerKv];
};

// Where the result of (row, query head h of kv_head) goes.
inline float* output_of(const SegmentRows& segment, const AttentionShape& shape, int kv_head, int h, int64_t row) {
  return segment.out + row * segment.out_stride + (kv_head * shape.heads_per_kv() + h) * int64_t{shape.dim_v};
}

}  // namespace espalier
