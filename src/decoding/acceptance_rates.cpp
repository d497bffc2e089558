#include "decoding/acceptance_rates.h"

#include <algorithm>
#include <cmath>

namespace espalier {
namespace {

// The drafters' score counts as this many observations.
constexpr double kPrior = 6;
// Beyond this many, old observations lose weight.
constexpr float kMemory = 400;

}  // namespace

int32_t AcceptanceRates::kind(uint32_t drafters, double score, int64_t depth) {
  const double log_odds = std::log(score / (1 - score));
  const int scores = static_cast<int>(std::clamp(std::floor(log_odds * 1.25) + 6.0, 0.0, kScores - 1.0));
  const int depths = depth <= 2 ? static_cast<int>(std::max<int64_t>(depth, 1)) - 1 : (depth <= 5 ? 2 : 3);
  return (static_cast<int32_t>(drafters) * kScores + scores) * kDepths + depths;
}

double AcceptanceRates::rate(int32_t kind, double score) const {
  const Count& count = counts_[static_cast<size_t>(kind)];
  return (static_cast<double>(count.accepted) + kPrior * score) / (static_cast<double>(count.tried) + kPrior);
}

void AcceptanceRates::record(int32_t kind, bool accepted) {
  Count& count = counts_[static_cast<size_t>(kind)];
  count.tried += 1;
  count.accepted += accepted ? 1 : 0;
  if (count.tried > kMemory) {
    count.tried /= 2;
    count.accepted /= 2;
  }
}

}  // namespace espalier
