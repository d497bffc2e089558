// Pieces of f64 definitions whose state forgets.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "attention/shared/head_norm.h"
#include "attention/shared/min_norm.h"
#include "attention/shared/plain.h"

namespace espalier::plain {

// S [Dk][Dv] of one head and what reads and writes it.
struct Memory {
  explicit Memory(const Head& head)
      : dim(head.shape.dim_k), dim_v(head.shape.dim_v), s(static_cast<size_t>(dim * dim_v), 0.0) {}

  void decay(int d, double factor) {
    for (int c = 0; c < dim_v; ++c) s[static_cast<size_t>(d * dim_v + c)] *= factor;
  }
  void add(const std::vector<double>& k, const std::vector<double>& v) {
    for (int d = 0; d < dim; ++d) {
      for (int c = 0; c < dim_v; ++c) s[static_cast<size_t>(d * dim_v + c)] += k[d] * v[c];
    }
  }
  std::vector<double> read(const std::vector<double>& q) const {
    std::vector<double> y(static_cast<size_t>(dim_v), 0.0);
    for (int d = 0; d < dim; ++d) {
      for (int c = 0; c < dim_v; ++c) y[c] += q[d] * s[static_cast<size_t>(d * dim_v + c)];
    }
    return y;
  }

  int dim, dim_v;
  std::vector<double> s;
};

inline std::vector<double> doubles(const float* x, int n) {
  return {x, x + n};
}

inline std::vector<double> unit(const float* x, int n) {
  double squares = 0;
  for (int i = 0; i < n; ++i) squares += double{x[i]} * x[i];
  std::vector<double> y = doubles(x, n);
  for (double& value : y) value /= std::max(std::sqrt(squares), double{kMinNorm});
  return y;
}

// W x + b, one output
inline double affine(const Parameters& parameters, const Head& head, int64_t s, int64_t output) {
  const std::vector<float>& x = head.rows->hidden[static_cast<size_t>(s)];
  double z = parameters[1][static_cast<size_t>(output)];
  for (size_t i = 0; i < x.size(); ++i) z += double{parameters[0][static_cast<size_t>(output) * x.size() + i]} * x[i];
  return z;
}

// y as it is read from the state, with the factor and the norm that end a head.
inline void finish(bool norm, const Parameters& parameters, const Head& head, std::vector<double> y, double* out) {
  double squares = 0;
  for (double& value : y) value /= std::sqrt(static_cast<double>(head.shape.dim_k));
  for (const double value : y) squares += value * value;
  const double root = std::sqrt(squares / static_cast<double>(y.size()) + kHeadNormEps);
  for (size_t c = 0; c < y.size(); ++c) {
    out[c] += norm ? y[c] / root * parameters.back()[head.head * y.size() + c] : y[c];
  }
}

}  // namespace espalier::plain
