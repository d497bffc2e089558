#include "models/rotary.h"

#include <cmath>
#include <numbers>

namespace espalier {

std::vector<double> rotary_frequencies(const ModelConfig& config) {
  const RopeScaling& scaling = config.rope_scaling;
  std::vector<double> frequencies(static_cast<size_t>(config.rotary_dim / 2));
  for (size_t i = 0; i < frequencies.size(); ++i) {
    double& frequency = frequencies[i];
    frequency = std::pow(config.rope_theta, -2.0 * static_cast<double>(i) / static_cast<double>(config.rotary_dim));
    if (scaling.kind == RopeScaling::Kind::kLinear) frequency /= scaling.factor;
    if (scaling.kind == RopeScaling::Kind::kLlama3) {
      const double turns = scaling.original_positions * frequency / (2.0 * std::numbers::pi);  // of the original text
      const double low = scaling.low_frequency_factor, high = scaling.high_frequency_factor;
      const double kept = turns <= low ? 0.0 : turns >= high ? 1.0 : (turns - low) / (high - low);
      frequency *= kept + (1.0 - kept) / scaling.factor;
    }
  }
  return frequencies;
}

std::vector<double> sinusoid_frequencies(int64_t d) {
  std::vector<double> frequencies(static_cast<size_t>(d / 2));
  for (size_t i = 0; i < frequencies.size(); ++i) {
    frequencies[i] = std::pow(10000.0, -2.0 * static_cast<double>(i) / static_cast<double>(d));
  }
  return frequencies;
}

}  // namespace espalier
