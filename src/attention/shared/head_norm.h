// The norm that ends a head of attention/shared/decay.h.
#pragma once

#include <vector>

#include "attention/shared/decay.h"

namespace espalier {

class HeadNorm {
 public:
  HeadNorm(const AttentionSpec& spec, const AttentionShape& shape) : on_(has_head_norm(spec)), shape_(shape) {}

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
