#include "attention/shared/visible_rows.h"

#include <algorithm>

#include "kernels/transpose.h"

namespace espalier {

int64_t fresh_panels(const SegmentRows& segment) {
  const StateLayout& layout = segment.state->layout();
  const int64_t all = (segment.rows + kPanel - 1) / kPanel;
  if (!segment.chain || segment.span || !layout.bounded()) return all;
  const int64_t look_back = (layout.lag + 1) * layout.block + layout.tail;
  return std::min(all, (kSlice + look_back + kPanel - 1) / kPanel + 1);
}

int64_t fresh_panels_floats(const SegmentRows& segment) {
  return fresh_panels(segment) * kPanel * segment.state->layout().dim_k;
}

void rows_to_panel(const float* rows, int64_t stride, int64_t lane, int64_t count, int64_t dim, float* panel) {
  if (lane == 0 && count < kPanel) std::fill_n(panel, kPanel * dim, 0.0f);
  transpose(rows, stride, count, dim, panel + lane, kPanel);
}

void make_fresh_panels(const SegmentRows& segment, int kv_head, int64_t begin, int64_t end, float* panels) {
  if (!segment.keys) return;
  const int dim = segment.state->layout().dim_k;
  const float* k = segment.k + int64_t{kv_head} * dim;
  for (int64_t first = begin; first < end; first += kPanel) {
    rows_to_panel(k + first * segment.k_stride, segment.k_stride, 0, std::min<int64_t>(kPanel, end - first), dim,
                  panels + fresh_panel_of(segment, first) * kPanel * dim);
  }
}

VisibleRows::VisibleRows(const SegmentRows& segment, int kv_head, int64_t row, int32_t* path)
    : segment_(segment),
      kv_head_(kv_head),
      position_(segment.position(row)),
      path_(segment.chain ? nullptr : path),
      begin_(0),
      end_(segment.seen_end(row)) {
  if (segment.chain) return;
  for (int32_t node = static_cast<int32_t>(row); node >= 0; node = segment.parent[node])
    path[segment.depth[node]] = node;
}

VisibleRows VisibleRows::with_values(const float* values) const {
  VisibleRows other = *this;
  other.values_ = values;
  return other;
}

VisibleRows VisibleRows::range(int64_t begin, int64_t end) const {
  VisibleRows narrowed = *this;
  narrowed.end_ = std::min(end, end_);
  narrowed.begin_ = std::min(std::max<int64_t>(begin, 0), narrowed.end_);
  return narrowed;
}

// Panels come once each with all their wanted lanes: panel.run(keys, lane, j, count) where positions begin + j, … stand
// side by side in lanes lane, …, a multiple of 16 in as many panels side by side; along a path, panel.start(keys) and
// then panel.take(lane, j, 1) for each.
template <class Panel>
void VisibleRows::each_panel(const KeyPanels& panels, Panel&& panel) const {
  const LayerState& state = *segment_.state;
  const int64_t panel_floats = panels.floats();
  const int64_t offset = kPanel * panels.first, first_panel = state.first_row() / kPanel;
  const int64_t committed_end = std::min(end_, base());
  const auto committed_at = [&](int64_t position) {
    return panels.committed ? panels.committed + (position / kPanel - first_panel) * panel_floats
                            : state.k_panel(kv_head_, position);
  };
  for (int64_t first = begin_; first < committed_end;) {
    const float* keys = committed_at(first);
    int64_t next = std::min(committed_end, (first / kPanel + 1) * kPanel);
    if (next - first == kPanel) {
      while (next + kPanel <= committed_end && committed_at(next) == keys + (next - first) / kPanel * panel_floats) {
        next += kPanel;
      }
    }
    panel.run(keys + offset, first % kPanel, first - begin_, next - first);
    first = next;
  }
  const int64_t fresh = std::max(begin_, base());
  if (fresh >= end_) return;
  if (!path_) {
    const int64_t turn = fresh_panels(segment_), end = end_ - base();
    for (int64_t row = fresh - base(); row < end;) {
      const int64_t index = row / kPanel, place = index % turn;
      int64_t next = std::min(end, (index + 1) * kPanel);
      if (next - row == kPanel) next = std::min(end / kPanel, index - place + turn) * kPanel;
      panel.run(panels.fresh + offset + place * panel_floats, row % kPanel, row + base() - begin_, next - row);
      row = next;
    }
    return;
  }
  // Rows ascend along a path, so each panel is met once.
  int64_t current = -1;
  for (int64_t position = fresh; position < end_; ++position) {
    const int64_t row = row_at(position);
    if (row / kPanel != current) {
      current = row / kPanel;
      panel.start(panels.fresh + offset + current * panel_floats);
    }
    panel.take(row % kPanel, position - begin_, 1);
  }
}

void VisibleRows::scores(const Kernels& kernels, const float* const* q, int queries, const float* fresh_panels,
                         float* temporary, float* scores, int64_t stride) const {
  const KeyPanels keys{.fresh = fresh_panels, .dim = segment_.state->layout().dim_k};
  this->scores(kernels, q, queries, keys, temporary, scores, stride);
}

void VisibleRows::scores(const Kernels& kernels, const float* const* q, int queries, const KeyPanels& panels,
                         float* temporary, float* scores, int64_t stride) const {
  struct Panel {
    const Kernels& kernels;
    const float* const* q;
    int queries;
    int64_t dim, panel_floats;
    float *temporary, *scores;
    int64_t stride;

    void run(const float* keys, int64_t lane, int64_t j, int64_t count) const {
      if (count % kPanel == 0) return score(keys, count / kPanel, scores + j, stride);
      start(keys);
      take(lane, j, count);
    }
    void start(const float* keys) const { score(keys, 1, temporary, kPanel); }
    void score(const float* keys, int64_t panels, float* out, int64_t out_stride) const {
      kernels.panel_scores({.q = q,
                            .count = queries,
                            .panel = keys,
                            .panels = panels,
                            .panel_stride = panel_floats,
                            .dim = dim,
                            .scores = out,
                            .score_stride = out_stride});
    }
    void take(int64_t lane, int64_t j, int64_t count) const {
      for (int i = 0; i < queries; ++i) {
        const float* from = temporary + i * kPanel + lane;
        std::copy(from, from + count, scores + i * stride + j);
      }
    }
  };
  each_panel(panels, Panel{kernels, q, queries, panels.dim, panels.floats(), temporary, scores, stride});
}

void VisibleRows::key_squares(const Kernels& kernels, const float* fresh_panels, float* squares) const {
  struct Panel {
    const Kernels& kernels;
    int64_t dim;
    float* squares;
    float sums[kPanel];

    void run(const float* keys, int64_t lane, int64_t j, int64_t count) {
      for (int64_t done = 0; done < count; done += kPanel) {
        start(keys + done * dim);
        take(lane, j + done, std::min<int64_t>(kPanel, count - done));
      }
    }
    void start(const float* keys) { kernels.panel_squares(keys, dim, sums); }
    void take(int64_t lane, int64_t j, int64_t count) const {
      std::copy(sums + lane, sums + lane + count, squares + j);
    }
  };
  const int64_t dim = segment_.state->layout().dim_k;
  each_panel({.fresh = fresh_panels, .dim = dim}, Panel{kernels, dim, squares, {}});
}

void VisibleRows::weighted_sum(const Kernels& kernels, const float* weights, int64_t weight_stride, int queries,
                               float* out, int64_t stagger) const {
  const int64_t dim = segment_.state->layout().dim_v;
  const Values values{.committed = &LayerState::v_row,
                      .fresh = values_ ? values_ : segment_.v + kv_head_ * dim,
                      .committed_stride = dim,
                      .fresh_stride = values_ ? dim : segment_.v_stride};
  weighted_sum(kernels, values, weights, weight_stride, queries, out, dim, stagger);
}

void VisibleRows::weighted_extra_sum(const Kernels& kernels, const float* weights, int64_t weight_stride, int queries,
                                     float* out, int64_t out_stride, int64_t stagger) const {
  const StateLayout& layout = segment_.state->layout();
  const int64_t row = int64_t{layout.heads_kv} * layout.dim_extra;
  weighted_sum(kernels, {&LayerState::extra_row, segment_.extra_of(0, kv_head_), layout.dim_extra, row}, weights,
               weight_stride, queries, out, out_stride, stagger);
}

void VisibleRows::weighted_sum(const Kernels& kernels, const Values& values, const float* weights,
                               int64_t weight_stride, int queries, float* out, int64_t out_stride,
                               int64_t stagger) const {
  const LayerState& state = *segment_.state;
  const int64_t dim = state.layout().dim_v;
  WeightedSum sum{.weights = weights,
                  .weight_stride = weight_stride,
                  .queries = queries,
                  .rows = nullptr,
                  .count = 0,
                  .row_stride = values.committed_stride,
                  .dim = dim,
                  .out = out,
                  .out_stride = out_stride};
  const int64_t committed_end = std::min(end_, base());
  for (int64_t position = begin_; position < committed_end; position += sum.count) {
    sum.weights = weights + position - begin_;
    sum.rows = (state.*values.committed)(kv_head_, position);
    sum.count = std::min(committed_end - position, state.v_run(position));
    kernels.weighted_sum(sum);
  }
  const int64_t fresh = std::max(begin_, base());
  if (fresh >= end_) return;
  sum.weights = weights + fresh - begin_;
  sum.count = end_ - fresh;
  sum.stagger = stagger;
  sum.rows = values.fresh;
  sum.row_stride = values.fresh_stride;
  if (path_) {
    sum.index = path_ + fresh - base();
  } else {
    sum.rows += (fresh - base()) * values.fresh_stride;
  }
  kernels.weighted_sum(sum);
}

const float* VisibleRows::extra(int64_t position) const {
  return position < base() ? segment_.state->extra_row(kv_head_, position)
                           : segment_.extra_of(row_at(position), kv_head_);
}

void VisibleRows::copy_k(int64_t position, float* out) const {
  if (position < base()) return segment_.state->copy_k_row(kv_head_, position, out);
  const int64_t dim = segment_.state->layout().dim_k;
  const float* k = segment_.k + row_at(position) * segment_.k_stride + kv_head_ * dim;
  std::copy(k, k + dim, out);
}

RowRun::RowRun(const SegmentRows& segment, int kv_head, int heads, int64_t begin, int64_t end, int64_t window_begin,
               int32_t* path)
    : segment_(segment),
      kv_head_(kv_head),
      heads_(heads),
      queries_(static_cast<int>(end - begin) * heads),
      begin_(begin),
      end_(end),
      window_begin_(window_begin),
      path_(path) {
  for (int64_t row = begin; row < end; ++row) {
    const QueryHeads own(segment, heads, kv_head, row, segment.state->layout().dim_k);
    std::copy_n(own.q, heads, q_ + (row - begin) * heads);
  }
}

void RowRun::scores(const Kernels& kernels, const KeyPanels& panels, float* temporary, float* scores,
                    int64_t stride) const {
  if (segment_.chain) {
    const VisibleRows last(segment_, kv_head_, end_ - 1, path_);
    last.range(window_begin_, last.end()).scores(kernels, q_, queries_, panels, temporary, scores, stride);
    return;
  }
  each_part([&](const VisibleRows& rows, int first, int queries) {
    rows.scores(kernels, q_ + first, queries, panels, temporary, scores + first * stride + rows.begin() - window_begin_,
                stride);
  });
}

void RowRun::weighted_sum(const Kernels& kernels, const float* weights, int64_t stride, float* out) const {
  const int64_t dim = segment_.state->layout().dim_v;
  if (segment_.chain) {
    const VisibleRows all(segment_, kv_head_, begin_, path_);
    const VisibleRows shared = all.range(window_begin_, all.position()), own = all.range(all.position(), all.end());
    if (shared.count() > 0) shared.weighted_sum(kernels, weights, stride, queries_, out);
    return own.weighted_sum(kernels, weights + own.begin() - window_begin_, stride, queries_, out, heads_);
  }
  each_part([&](const VisibleRows& rows, int first, int queries) {
    rows.weighted_sum(kernels, weights + first * stride + rows.begin() - window_begin_, stride, queries,
                      out + first * dim);
  });
}

// Of a tree: committed rows for all queries, then each row's path.
template <class Body>
void RowRun::each_part(Body&& body) const {
  const int64_t committed = std::max(window_begin_, segment_.state->length());
  for (int64_t row = begin_; row < end_; ++row) {
    const VisibleRows all(segment_, kv_head_, row, path_);
    if (row == begin_ && committed > window_begin_) body(all.range(window_begin_, committed), 0, queries_);
    body(all.range(committed, all.end()), static_cast<int>(row - begin_) * heads_, heads_);
  }
}

}  // namespace espalier
