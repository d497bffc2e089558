// Medians and other quantiles of measurements.
#pragma once

#include <vector>

namespace espalier {

// Of at least one value; between two values linear. `share` in [0, 1].
double quantile(std::vector<double> values, double share);
inline double median(std::vector<double> values) {
  return quantile(std::move(values), 0.5);
}

}  // namespace espalier
