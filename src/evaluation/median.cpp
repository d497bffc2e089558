#include "evaluation/median.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace espalier {

double quantile(std::vector<double> values, double share) {
  ESPALIER_CHECK(!values.empty() && share >= 0 && share <= 1);
  std::sort(values.begin(), values.end());
  const double place = share * static_cast<double>(values.size() - 1);
  const auto below = static_cast<size_t>(std::floor(place));
  const size_t above = std::min(below + 1, values.size() - 1);
  return values[below] + (place - std::floor(place)) * (values[above] - values[below]);
}

}  // namespace espalier
