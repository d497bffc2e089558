#include "attention/shared/initial_values.h"

#include <algorithm>
#include <cmath>

#include "core/rng.h"

namespace espalier {
namespace {

// Normal rows of [rows][columns] whose directions are orthogonal within blocks of `columns` rows: FAVOR+'s (arXiv
// 2009.14794, section 2.4). Gram-Schmidt in double; each row keeps the length that it was drawn with.
void make_orthogonal(float* values, int64_t rows, int64_t columns) {
  std::vector<double> block(static_cast<size_t>(columns * columns));
  for (int64_t row = 0; row < rows; ++row) {
    float* x = values + row * columns;
    double* unit = block.data() + row % columns * columns;
    double squares = 0;
    for (int64_t c = 0; c < columns; ++c) squares += double{x[c]} * x[c];
    std::copy(x, x + columns, unit);
    const auto dot = [&](const double* a, const double* b) {
      double sum = 0;
      for (int64_t c = 0; c < columns; ++c) sum += a[c] * b[c];
      return sum;
    };
    for (int64_t earlier = 0; earlier < row % columns; ++earlier) {
      const double* other = block.data() + earlier * columns;
      const double along = dot(unit, other);
      for (int64_t c = 0; c < columns; ++c) unit[c] -= along * other[c];
    }
    const double length = std::sqrt(dot(unit, unit));
    for (int64_t c = 0; c < columns; ++c) {
      unit[c] /= length;
      x[c] = static_cast<float>(unit[c] * std::sqrt(squares));
    }
  }
}

}  // namespace

std::vector<float> initial_values(const ParameterInfo& parameter, int64_t layer) {
  int64_t elements = 1;
  for (const int64_t extent : parameter.shape) elements *= extent;
  std::vector<float> values(static_cast<size_t>(elements), parameter.init == Init::kOne ? 1.0f : 0.0f);
  const int64_t columns = parameter.shape.back();
  const int64_t rows = parameter.shape.size() < 2 ? 1 : parameter.shape[parameter.shape.size() - 2];
  if (parameter.init == Init::kIdentity) {
    for (int64_t i = 0; i < elements; ++i) values[i] = (i / columns) % rows == i % columns ? 1.0f : 0.0f;
  }
  if (parameter.init == Init::kLastTap) {
    for (int64_t i = columns - 1; i < elements; i += columns) values[static_cast<size_t>(i)] = 1.0f;
  }
  if (parameter.init == Init::kMeans) {
    for (int64_t i = 0; i < elements; ++i) {
      const int64_t row = i / columns % rows, first = row * columns / rows, last = (row + 1) * columns / rows;
      const int64_t column = i % columns;
      values[i] = column >= first && column < last ? 1.0f / static_cast<float>(last - first) : 0.0f;
    }
  }
  if (parameter.init == Init::kNormal || parameter.init == Init::kOrthogonal) {
    uint64_t seed = 0;
    for (const char c : parameter.name) seed = seed * 257 + static_cast<unsigned char>(c);
    Random random(seed, static_cast<uint64_t>(layer));
    for (float& value : values) value = random.normal();
  }
  if (parameter.init == Init::kOrthogonal) {
    for (int64_t i = 0; i < elements; i += rows * columns) make_orthogonal(values.data() + i, rows, columns);
  }
  return values;
}

}  // namespace espalier
