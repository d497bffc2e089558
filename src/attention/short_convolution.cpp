#include "attention/short_convolution.h"

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
    const std::vector<float>& weight = values[first + i];  // [channels][W]
    const int64_t channels = static_cast<int64_t>(weight.size()) / taps_;
    filters_[i].resize(weight.size());
    for (int64_t c = 0; c < channels; ++c) {
      for (int64_t j = 0; j < taps_; ++j) {
        filters_[i][static_cast<size_t>(j * channels + c)] = weight[static_cast<size_t>(c * taps_ + j)];
      }
    }
  }
}

}  // namespace espalier
