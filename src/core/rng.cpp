#include "core/rng.h"

#include <cmath>

namespace espalier {

float Random::normal() {
  const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform()));
  return static_cast<float>(radius * std::cos(6.283185307179586 * uniform()));
}

}  // namespace espalier
