#include "attention/shared/short_convolution.h"

#include "attention/shared/block_decay.h"

namespace espalier {
namespace {

constexpr int64_t kMaxShortTaps = 16;

}  // namespace

ShortConvolution::ShortConvolution(const AttentionSpec& spec, const AttentionShape& shape)
    : shape_(shape),
      taps_(spec.integer("conv", 0, 0, kMaxShortTaps)),
      silu_(spec.choice("activation", "silu", "silu|none") == "silu") {}

void ShortConvolution::add_parameters(std::vector<ParameterInfo>& parameters) const {
  if (taps_ == 0) return;
  parameters.push_back({"conv_q.weight", {int64_t{shape_.heads} * shape_.dim_k, taps_}, Init::kLastTap});
  parameters.push_back({"conv_k.weight", {int64_t{shape_.heads_kv} * shape_.dim_k, taps_}, Init::kLastTap});
  parameters.push_back({"conv_v.weight", {int64_t{shape_.heads_kv} * shape_.dim_v, taps_}, Init::kLastTap});
}

void ShortConvolution::load(const std::vector<std::vector<float>>& values, size_t first) {
  for (size_t i = 0; taps_ > 0 && i < 3; ++i) {
    filters_[i] = transposed(values[first + i], taps_);
  }
}

}  // namespace espalier
