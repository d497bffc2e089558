// `conv(taps=32)`: causal depthwise FIR over v (You et al., ICML 2024), one filter per query head.
//
//   y_t = sum_{j<W} w[h][j] v_{t - (W-1) + j}          oldest first; rows before the text are skipped
//
// Parameter: conv.weight [H, W], zero at first. State: the last W - 1 rows. Of a span the filter looks both ways, with
// 2 W - 1 taps.
#pragma once

#include <string>
#include <vector>

#include "attention/operator.h"

namespace espalier {

class VisibleRows;

// The option `taps`, also of those who have such a filter beside other things.
inline constexpr int64_t kMaxTaps = 256;
inline OptionInfo taps_option(int64_t fallback, int64_t low) {
  return integer_option("taps", std::to_string(fallback), low, kMaxTaps,
                        low > 0 ? "taps of the filter" : "taps of a causal filter over v that is added; 0: none");
}

// The same filter as a part of another mechanism.
class ConvFilter {
 public:
  explicit ConvFilter(int64_t taps, bool both_ways = false)
      : taps_(taps), width_(both_ways && taps > 0 ? 2 * taps - 1 : taps) {}

  int64_t taps() const { return taps_; }
  ParameterInfo parameter(const AttentionShape& shape) const {
    return {"conv.weight", {shape.heads, width_}, Init::kZero};
  }
  void load(std::vector<float> weight) { weight_ = std::move(weight); }
  // out [heads, Dv] += the filtered v of query heads [first_head, first_head + heads), which share a KV head, at the
  // node's position; `all` is its whole path, `sums` [heads, Dv] scratch.
  void add(const Kernels& kernels, const VisibleRows& all, int first_head, int heads, int64_t dim_v, float* sums,
           float* out) const;

 private:
  int64_t taps_, width_;
  std::vector<float> weight_;  // [H, width]
};

}  // namespace espalier
