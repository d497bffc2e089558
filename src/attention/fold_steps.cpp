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
  const LayerState& state = *segment.state;
  const StateLayout& layout = state.layout();
  const float* previous = state.fold(kv_head);
  std::vector<float> k_row(static_cast<size_t>(layout.dim_k));
  const int64_t count = layout.fold_floats == 0 ? 0 : borders(segment);
  for (int64_t step = 0; step < count; ++step) {
    float* fold = steps + step * layout.fold_floats;
    std::copy(previous, previous + layout.fold_floats, fold);
    const int64_t begin = state.fold_end() + step * layout.block;
    for (int64_t position = std::max(begin, layout.sinks); position < begin + layout.block; ++position) {
      if (position < state.length()) {
        state.copy_k_row(kv_head, position, k_row.data());
        mechanism.fold_row(kernels, kv_head, k_row.data(), state.v_row(kv_head, position), fold);
      } else {
        const int64_t offset = (position - state.length()) * segment.kv_stride;
        mechanism.fold_row(kernels, kv_head, segment.k + offset + int64_t{kv_head} * layout.dim_k,
                           segment.v + offset + int64_t{kv_head} * layout.dim_v, fold);
      }
    }
    previous = fold;
  }
}

const float* fold_for(const SegmentRows& segment, int kv_head, int64_t position, const float* steps) {
  const LayerState& state = *segment.state;
  const int64_t step = (state.fold_end(position) - state.fold_end()) / state.layout().block;
  return step == 0 ? state.fold(kv_head) : steps + (step - 1) * state.layout().fold_floats;
}

}  // namespace espalier
