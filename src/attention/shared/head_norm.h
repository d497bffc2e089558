// The norm that ends each head of mechanisms whose state forgets, unless norm=none:
//
//   y = norm.weight * y / sqrt(mean(y^2) + 1e-5)
//
// Parameter: norm.weight [H, Dv].
#pragma once

#include <vector>

#include "attention/operator.h"

namespace espalier {

inline constexpr double kHeadNormEps = 1e-5;

// The option `norm`.
inline OptionInfo norm_option() {
  return choice_option("norm", "head|none", "RMS norm that ends each head");
}
inline bool has_head_norm(const AttentionOptions& options) {
  return options.is("norm", "head");
}

class HeadNorm {
 public:
  HeadNorm(bool on, const AttentionShape& shape) : on_(on), shape_(shape) {}

  void add_parameter(std::vector<ParameterInfo>& parameters) const {
    if (on_) parameters.push_back({"norm.weight", {shape_.heads, shape_.dim_v}, Init::kOne, true});
  }
  // The last of `values`, if it is on.
  void load(const std::vector<std::vector<float>>& values) {
    if (on_) weight_ = values.back();
  }
  // y [Dv] of query head `head`, in place.
  void apply(const Kernels& kernels, int head, float* y) const {
    if (on_) kernels.rms_norm(y, weight_.data() + head * shape_.dim_v, kHeadNormEps, shape_.dim_v, y);
  }

 private:
  bool on_;
  AttentionShape shape_;
  std::vector<float> weight_;  // [H, Dv]
};

}  // namespace espalier
