#include "attention/shared/fold_steps.h"

#include <algorithm>
#include <vector>

#include "attention/shared/visible_rows.h"
#include "core/error.h"

namespace espalier {
namespace {

int64_t borders(const SegmentRows& segment) {
  const LayerState& state = *segment.state;
  const int32_t deepest =
      segment.chain ? segment.depth[segment.rows - 1] : *std::max_element(segment.depth, segment.depth + segment.rows);
  return (state.fold_end(state.length() + deepest) - state.fold_end()) / state.layout().block;
}

// A chain's rows read the folds of their slice only, so memory for those is used again and again; not where every
// block's fold stays.
template <class Float>
Float* fold_at(const SegmentRows& segment, int64_t step, Float* steps) {
  const StateLayout& layout = segment.state->layout();
  if (segment.chain && !layout.fold_grows) step %= kSlice / layout.block + 2;
  return steps + step * layout.fold_floats;
}

}  // namespace

int64_t fold_steps_floats(const SegmentRows& segment) {
  const StateLayout& layout = segment.state->layout();
  if (layout.fold_floats == 0) return 0;
  const int64_t all = borders(segment);
  const bool in_turn = segment.chain && !layout.fold_grows;
  return (in_turn ? std::min(all, kSlice / layout.block + 2) : all) * layout.fold_floats;
}

void make_fold_steps(const Kernels& kernels, const Mechanism& mechanism, const SegmentRows& segment, int kv_head,
                     int64_t begin, int64_t end, float* steps, const float* features) {
  if (segment.state->layout().fold_floats == 0) return;
  const int64_t last = segment.chain ? fold_steps_before(segment, segment.position(end - 1)) : borders(segment);
  for (int64_t step = begin == 0 ? 0 : fold_steps_before(segment, segment.position(begin - 1)); step < last; ++step) {
    make_fold_step(kernels, mechanism, segment, kv_head, step, steps, RowAccess::kCopies, features);
  }
}

RowCopies::RowCopies(const SegmentRows& segment, int kv_head, int64_t begin, int64_t end, bool values_only)
    : rows{.first = begin, .count = end - begin} {
  const LayerState& state = *segment.state;
  const StateLayout& layout = state.layout();
  const int64_t width = values_only ? layout.dim_v : layout.dim_k + layout.dim_v + layout.dim_extra;
  memory.resize(static_cast<size_t>(rows.count * width));
  rows.k = values_only ? nullptr : memory.data();
  rows.v = memory.data() + (values_only ? 0 : layout.dim_k);
  rows.extra = values_only ? nullptr : rows.v + layout.dim_v;
  rows.k_stride = rows.v_stride = rows.extra_stride = width;
  for (int64_t position = begin; position < end; ++position) {
    const bool committed = position < state.length();
    const int64_t row = position - state.length();
    float* k = memory.data() + (position - begin) * width;
    float* v = k + (values_only ? 0 : layout.dim_k);
    std::copy_n(committed ? state.v_row(kv_head, position)
                          : segment.v + row * segment.v_stride + int64_t{kv_head} * layout.dim_v,
                layout.dim_v, v);
    if (values_only) continue;
    float* extra = v + layout.dim_v;
    if (committed) {
      state.copy_k_row(kv_head, position, k);
      std::copy_n(state.extra_row(kv_head, position), layout.dim_extra, extra);
    } else {
      std::copy_n(segment.k + row * segment.k_stride + int64_t{kv_head} * layout.dim_k, layout.dim_k, k);
      std::copy_n(segment.extra_of(row, kv_head), layout.dim_extra, extra);
    }
  }
}

void make_fold_step(const Kernels& kernels, const Mechanism& mechanism, const SegmentRows& segment, int kv_head,
                    int64_t step, float* steps, RowAccess access, const float* features) {
  const LayerState& state = *segment.state;
  const StateLayout& layout = state.layout();
  const float* previous = step == 0 ? state.fold(kv_head) : fold_at(segment, step - 1, steps);
  float* fold = fold_at(segment, step, steps);
  if (layout.fold_grows) {
    std::fill(fold, fold + layout.fold_floats, 0.0f);
    previous = fold;
  }
  const int64_t end = state.fold_end() + (step + 1) * layout.block;
  const int64_t begin = std::min(end, std::max(end - layout.block, layout.unfolded()));
  if (access == RowAccess::kInPlace && segment.chain && begin >= state.length()) {
    const int64_t row = begin - state.length();
    const FoldRows rows{.first = begin,
                        .count = end - begin,
                        .k = segment.k + row * segment.k_stride + int64_t{kv_head} * layout.dim_k,
                        .v = segment.v + row * segment.v_stride + int64_t{kv_head} * layout.dim_v,
                        .extra = segment.extra_of(row, kv_head),
                        .k_stride = segment.k_stride,
                        .v_stride = segment.v_stride,
                        .extra_stride = int64_t{layout.heads_kv} * layout.dim_extra};
    return mechanism.fold_rows(kernels, kv_head, rows, previous, fold);
  }
  const bool prepared = features && segment.chain && begin >= state.length();
  RowCopies copies(segment, kv_head, begin, end, prepared);
  if (prepared) {
    copies.rows.features = features;
    copies.rows.feature_row = begin - state.length();
    copies.rows.feature_turn = fresh_panels(segment) * kPanel;
  }
  mechanism.fold_rows(kernels, kv_head, copies.rows, previous, fold);
}

int64_t fold_steps_before(const SegmentRows& segment, int64_t position) {
  const LayerState& state = *segment.state;
  return (state.fold_end(position) - state.fold_end()) / state.layout().block;
}

void add_outer_products(const Kernels& kernels, const float* phi, int64_t features, const FoldRows& rows, int64_t dim_v,
                        const float* before, float factor, float* fold) {
  kernels.weighted_sum({.weights = phi,
                        .weight_step = features,
                        .weight_stride = 1,
                        .queries = features,
                        .rows = rows.v,
                        .count = rows.count,
                        .row_stride = rows.v_stride,
                        .dim = dim_v,
                        .out = fold,
                        .out_stride = dim_v,
                        .start = before,
                        .start_factor = factor});
}

void add_features(const Kernels& kernels, const float* phi, int64_t features, const FoldRows& rows, int64_t dim_v,
                  const float* before, float* fold) {
  float* z = fold + features * dim_v;
  if (before != fold) std::copy_n(before + features * dim_v, features, z);
  for (int64_t row = 0; row < rows.count; ++row) kernels.add(z, phi + row * features, features, z);
  add_outer_products(kernels, phi, features, rows, dim_v, before, 1.0f, fold);
}

void add_prepared_features(const Kernels& kernels, const FoldRows& rows, int64_t features, int64_t dim_v,
                           const float* before, float* fold) {
  ESPALIER_CHECK(rows.count > 0);
  FoldRows part = rows;
  for (int64_t row = 0; row < rows.count; row += part.count) {
    const int64_t place = (rows.feature_row + row) % rows.feature_turn;
    part.count = std::min(rows.count - row, rows.feature_turn - place);
    part.v = rows.v_row(row);
    add_features(kernels, rows.features + place * features, features, part, dim_v, row == 0 ? before : fold, fold);
  }
}

const float* fold_for(const SegmentRows& segment, int kv_head, int64_t position, const float* steps) {
  const int64_t step = fold_steps_before(segment, position);
  return step == 0 ? segment.state->fold(kv_head) : fold_at(segment, step - 1, steps);
}

}  // namespace espalier
