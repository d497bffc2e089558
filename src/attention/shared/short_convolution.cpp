#include "attention/shared/short_convolution.h"

#include "attention/shared/block_decay.h"

namespace espalier {

ShortConvolutionOptions ShortConvolutionOptions::of(const AttentionOptions& options) {
  return {.taps = options.integer("conv"), .silu = options.is("activation", "silu")};
}

OptionInfo short_taps_option() {
  return integer_option("conv", "0", 0, 16, "taps of the short convolutions that q, k and v go through; 0: none");
}

OptionInfo short_activation_option() {
  return choice_option("activation", "silu|none", "what follows the short convolutions");
}

void ShortConvolution::add_parameters(std::vector<ParameterInfo>& parameters) const {
  if (options_.taps == 0) return;
  parameters.push_back({"conv_q.weight", {int64_t{shape_.heads} * shape_.dim_k, options_.taps}, Init::kLastTap});
  parameters.push_back({"conv_k.weight", {int64_t{shape_.heads_kv} * shape_.dim_k, options_.taps}, Init::kLastTap});
  parameters.push_back({"conv_v.weight", {int64_t{shape_.heads_kv} * shape_.dim_v, options_.taps}, Init::kLastTap});
}

void ShortConvolution::load(const std::vector<std::vector<float>>& values, size_t first) {
  for (size_t i = 0; options_.taps > 0 && i < 3; ++i) {
    filters_[i] = transposed(values[first + i], options_.taps);
  }
}

}  // namespace espalier
