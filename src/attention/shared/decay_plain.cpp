#include "attention/shared/decay.h"

#include <algorithm>
#include <cmath>

#include "attention/flash/flash.h"
#include "attention/shared/plain.h"

namespace espalier::plain {
namespace {

// S [Dk][Dv] of one head and what reads and writes it.
struct Memory {
  Memory(const Head& head) : dim(head.shape.dim_k), dim_v(head.shape.dim_v), s(static_cast<size_t>(dim * dim_v), 0.0) {}

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

std::vector<double> doubles(const float* x, int n) {
  return {x, x + n};
}

std::vector<double> unit(const float* x, int n) {
  double squares = 0;
  for (int i = 0; i < n; ++i) squares += double{x[i]} * x[i];
  std::vector<double> y = doubles(x, n);
  for (double& value : y) value /= std::max(std::sqrt(squares), double{kMinNorm});
  return y;
}

// W x + b, one output
double affine(const Parameters& parameters, const Head& head, int64_t s, int64_t output) {
  const std::vector<float>& x = head.rows->hidden[static_cast<size_t>(s)];
  double z = parameters[1][static_cast<size_t>(output)];
  for (size_t i = 0; i < x.size(); ++i) z += double{parameters[0][static_cast<size_t>(output) * x.size() + i]} * x[i];
  return z;
}

// x filtered by w [channels][taps], which starts at channel 0 of a row: rows of positions up to t.
std::vector<std::vector<float>> filtered(const std::vector<std::vector<float>>& x, const std::vector<float>& w,
                                         int64_t t, bool silu) {
  const size_t channels = x[0].size(), taps = w.size() / channels;
  std::vector<std::vector<float>> y;
  for (int64_t s = 0; s <= t; ++s) {
    std::vector<float>& row = y.emplace_back();
    for (size_t c = 0; c < channels; ++c) {
      double sum = 0;
      for (size_t j = 0; j < taps; ++j) {
        const int64_t from = s - static_cast<int64_t>(taps - 1 - j);
        if (from >= 0) sum += double{w[c * taps + j]} * x[static_cast<size_t>(from)][c];
      }
      row.push_back(static_cast<float>(silu ? sum / (1 + std::exp(-sum)) : sum));
    }
  }
  return y;
}

void finish(const AttentionSpec& spec, const Parameters& parameters, const Head& head, std::vector<double> y,
            double* out) {
  double squares = 0;
  for (double& value : y) value /= std::sqrt(static_cast<double>(head.shape.dim_k));
  for (const double value : y) squares += value * value;
  const double root = std::sqrt(squares / static_cast<double>(y.size()) + kHeadNormEps);
  for (size_t c = 0; c < y.size(); ++c) {
    out[c] += has_head_norm(spec) ? y[c] / root * parameters.back()[head.head * y.size() + c] : y[c];
  }
}

}  // namespace

void retention(const AttentionSpec& spec, const Parameters& parameters, const Head& head, int64_t t, double* out) {
  Memory memory(head);
  for (int64_t s = 0; s <= t; ++s) {
    for (int d = 0; d < memory.dim; ++d) {
      memory.decay(d, std::exp(retention_log_decay(spec, head.shape, head.kv_head())));
    }
    memory.add(doubles(head.k(s), memory.dim), doubles(head.v(s), memory.dim_v));
  }
  finish(spec, parameters, head, memory.read(doubles(head.q(t), memory.dim)), out);
}

void gla(const AttentionSpec& spec, const Parameters& parameters, const Head& head, int64_t t, double* out) {
  Memory memory(head);
  for (int64_t s = 0; s <= t; ++s) {
    for (int d = 0; d < memory.dim; ++d) {
      const double z = affine(parameters, head, s, int64_t{head.kv_head()} * memory.dim + d);
      memory.decay(d, std::pow(1 / (1 + std::exp(-z)), 1 / kGateDivisor));
    }
    memory.add(doubles(head.k(s), memory.dim), doubles(head.v(s), memory.dim_v));
  }
  finish(spec, parameters, head, memory.read(doubles(head.q(t), memory.dim)), out);
}

void gated_delta(const AttentionSpec& spec, const Parameters& parameters, const Head& all, int64_t t, double* out) {
  Head head = all;
  Sequence rows;
  if (spec.integer("conv", 0, 0, 1000) > 0) {
    const bool silu = spec.value("activation", "silu") == "silu";
    rows = {filtered(all.rows->q, parameters[3], t, silu), filtered(all.rows->k, parameters[4], t, silu),
            filtered(all.rows->v, parameters[5], t, silu), all.rows->hidden};
    head.rows = &rows;
  }
  Memory memory(head);
  const int64_t h = head.kv_head();
  for (int64_t s = 0; s <= t; ++s) {
    const double beta = 1 / (1 + std::exp(-affine(parameters, head, s, 2 * h)));
    const double softplus = std::log(1 + std::exp(affine(parameters, head, s, 2 * h + 1)));
    for (int d = 0; d < memory.dim; ++d) {
      memory.decay(d, std::exp(-std::exp(double{parameters[2][static_cast<size_t>(h)]}) * softplus));
    }
    const std::vector<double> k = unit(head.k(s), memory.dim), old = memory.read(k);
    std::vector<double> u = doubles(head.v(s), memory.dim_v);
    for (size_t c = 0; c < u.size(); ++c) u[c] = beta * (u[c] - old[c]);
    memory.add(k, u);
  }
  finish(spec, parameters, head, memory.read(unit(head.q(t), memory.dim)), out);
}

}  // namespace espalier::plain
