#include "attention/fold_steps.h"

#include <algorithm>
#include <vector>

namespace espalier {
namespace {

int64_t borders(const SegmentRows& segment) {
  const LayerState& state = *segment.state;
  const int32_t deepest = *std::max_element(segment.depth, segment.depth + segment.rows);
  return (state.fold_end(state.length() + deepest) - state.fold_end()) / state.layout().block;
}

}  // namespace

int64_t fold_steps_floats(const SegmentRows& segment) {
  const StateLayout& layout = segment.state->layout();
  return layout.fold_floats == 0 ? 0 : borders(segment) * layout.fold_floats;
}

void make_fold_steps(const Kernels& kernels, const Mechanism& mechanism, const SegmentRows& segment, int kv_head,
                     float* steps) {
  const int64_t count = segment.state->layout().fold_floats == 0 ? 0 : borders(segment);
  for (int64_t step = 0; step < count; ++step) make_fold_step(kernels, mechanism, segment, kv_head, step, steps);
}

void make_fold_step(const Kernels& kernels, const Mechanism& mechanism, const SegmentRows& segment, int kv_head,
                    int64_t step, float* steps) {
  const LayerState& state = *segment.state;
  const StateLayout& layout = state.layout();
  const float* previous = step == 0 ? state.fold(kv_head) : steps + (step - 1) * layout.fold_floats;
  float* fold = steps + step * layout.fold_floats;
  if (layout.fold_grows) {
    std::fill(fold, fold + layout.fold_floats, 0.0f);
    previous = fold;
  }
  const int64_t end = state.fold_end() + (step + 1) * layout.block;
  const int64_t begin = std::min(end, std::max(end - layout.block, layout.unfolded()));
  std::vector<float> k(static_cast<size_t>(layout.block * layout.dim_k));
  std::vector<float> v(static_cast<size_t>(layout.block * layout.dim_v));
  std::vector<float> extra(static_cast<size_t>(layout.block * layout.dim_extra));
  for (int64_t position = begin; position < end; ++position) {
    float* k_row = k.data() + (position - begin) * layout.dim_k;
    float* v_row = v.data() + (position - begin) * layout.dim_v;
    float* extra_row = extra.data() + (position - begin) * layout.dim_extra;
    if (position < state.length()) {
      state.copy_k_row(kv_head, position, k_row);
      std::copy_n(state.v_row(kv_head, position), layout.dim_v, v_row);
      std::copy_n(state.extra_row(kv_head, position), layout.dim_extra, extra_row);
    } else {
      const int64_t row = position - state.length();
      std::copy_n(segment.k + row * segment.kv_stride + int64_t{kv_head} * layout.dim_k, layout.dim_k, k_row);
      std::copy_n(segment.v + row * segment.kv_stride + int64_t{kv_head} * layout.dim_v, layout.dim_v, v_row);
      std::copy_n(segment.extra_of(row, kv_head), layout.dim_extra, extra_row);
    }
  }
  mechanism.fold_rows(kernels, kv_head, {begin, end - begin, k.data(), v.data(), extra.data()}, previous, fold);
}

int64_t fold_steps_before(const SegmentRows& segment, int64_t position) {
  const LayerState& state = *segment.state;
  return (state.fold_end(position) - state.fold_end()) / state.layout().block;
}

void add_outer_products(const Kernels& kernels, const float* columns, int64_t features, int64_t count, const float* v,
                        int64_t dim_v, float* fold) {
  kernels.weighted_sum({.weights = columns,
                        .weight_stride = count,
                        .queries = features,
                        .rows = v,
                        .count = count,
                        .row_stride = dim_v,
                        .dim = dim_v,
                        .out = fold,
                        .out_stride = dim_v});
}

const float* fold_for(const SegmentRows& segment, int kv_head, int64_t position, const float* steps) {
  const int64_t step = fold_steps_before(segment, position);
  return step == 0 ? segment.state->fold(kv_head) : steps + (step - 1) * segment.state->layout().fold_floats;
}

}  // namespace espalier
