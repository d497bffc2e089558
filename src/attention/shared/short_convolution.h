// Short convolutions before a mechanism, as the layers of gated delta networks have them (Yang et al. 2024, arXiv
// 2412.06464, section 3.4): q, k and v channel by channel over the last W rows, then SiLU.
//
//   x'_t = silu(sum_{j<W} w_j x_{t - (W-1) + j})        oldest first; rows before the text are zero
//
// Options conv=W (0: none) and activation=silu|none. Parameters: conv_q.weight [H Dk, W], conv_k.weight [Hk Dk, W],
// conv_v.weight [Hk Dv, W], which leave rows as they are at first. The mechanism names its filters, the step's context
// applies them: it knows the rows before (attention/state/row_tail.h). What a state holds are the filtered k and v.
#pragma once

#include <vector>

#include "attention/operator.h"
#include "attention/spec.h"

namespace espalier {

class ShortConvolution {
 public:
  // Throws InvalidArgument for options out of range.
  ShortConvolution(const AttentionSpec& spec, const AttentionShape& shape);

  int64_t taps() const { return taps_; }  // 0: none
  bool silu() const { return silu_; }
  // By tap, oldest first: [W][channels].
  const std::vector<float>& q() const { return filters_[0]; }
  const std::vector<float>& k() const { return filters_[1]; }
  const std::vector<float>& v() const { return filters_[2]; }

  void add_parameters(std::vector<ParameterInfo>& parameters) const;
  // Takes values[first], … as add_parameters() lists them.
  void load(const std::vector<std::vector<float>>& values, size_t first);

 private:
  AttentionShape shape_;
  int64_t taps_;
  bool silu_;
  std::vector<float> filters_[3];
};

}  // namespace espalier
