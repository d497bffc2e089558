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

namespace espalier {

struct ShortConvolutionOptions {
  int64_t taps = 0;  // 0: none
  bool silu = true;

  static ShortConvolutionOptions of(const AttentionOptions& options);
};
// The options `conv` and `activation`.
OptionInfo short_taps_option();
OptionInfo short_activation_option();

class ShortConvolution {
 public:
  ShortConvolution(const ShortConvolutionOptions& options, const AttentionShape& shape)
      : shape_(shape), options_(options) {}

  int64_t taps() const { return options_.taps; }  // 0: none
  bool silu() const { return options_.silu; }
  // By tap, oldest first: [W][channels].
  const std::vector<float>& q() const { return filters_[0]; }
  const std::vector<float>& k() const { return filters_[1]; }
  const std::vector<float>& v() const { return filters_[2]; }

  void add_parameters(std::vector<ParameterInfo>& parameters) const;
  // Takes values[first], … as add_parameters() lists them.
  void load(const std::vector<std::vector<float>>& values, size_t first);

 private:
  AttentionShape shape_;
  ShortConvolutionOptions options_;
  std::vector<float> filters_[3];
};

}  // namespace espalier
