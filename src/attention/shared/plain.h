// The attention mechanisms as their definitions read: f64, every pair of rows, no state, no groups of work. What is
// fast is measured against this.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "attention/card.h"
#include "attention/operator.h"

namespace espalier::plain {

// The rows of one sequence from position 0 on: q [T][H * Dk] and k [T][Hk * Dk] after rotary, v [T][Hk * Dv], and what
// they were projected from, hidden [T][d].
struct Sequence {
  std::vector<std::vector<float>> q, k, v, hidden;
};

// What one query head sees.
struct Head {
  const Sequence* rows;
  AttentionShape shape;
  int head;
  bool span = false;
  RelativeBias bias = {};
  bool* norm_of_heads = nullptr;  // a form sets it: its row ends in the norm over all heads

  // The first row that row t does not see.
  int64_t seen_end(int64_t t) const { return span ? static_cast<int64_t>(rows->k.size()) : t + 1; }
  const float* q(int64_t t) const { return rows->q[static_cast<size_t>(t)].data() + head * shape.dim_k; }
  const float* k(int64_t s) const { return rows->k[static_cast<size_t>(s)].data() + kv_head() * shape.dim_k; }
  const float* v(int64_t s) const { return rows->v[static_cast<size_t>(s)].data() + kv_head() * shape.dim_v; }
  int kv_head() const { return head / shape.heads_per_kv(); }
  double dot(int64_t t, int64_t s) const;                   // q_t . k_s
  double unit_dot(int64_t t, int64_t s) const;              // q^_t . k^_s, x^ = x / max(|x|, 1e-6)
  void add_v(int64_t s, double weight, double* out) const;  // out [Dv] += weight v_s
};

using Parameters = std::vector<std::vector<float>>;  // as Mechanism::parameters() lists them

// One mechanism, one head: out [Dv] += y_t. Its name is the mechanism's.
using Form = void (*)(const AttentionOptions& options, const Parameters& parameters, const Head& head, int64_t t,
                      double* out);
#define MECHANISM(x) void x(const AttentionOptions&, const Parameters&, const Head&, int64_t t, double* out);
#define ADDITIVE(x)
#include "attention/mechanisms.def"

// What an additive mechanism's features are taken of: query or key of a head at a position.
struct FeatureInput {
  const AttentionOptions& options;
  const Parameters& parameters;
  const Head& head;
  int64_t position;
  bool is_query;

  int dim() const { return head.shape.dim_k; }
  const float* x() const { return is_query ? head.q(position) : head.k(position); }
  double length() const {
    double sum = 0;
    for (int i = 0; i < dim(); ++i) sum += double{x()[i]} * x()[i];
    return std::sqrt(sum);
  }
};
// W x, W [outputs][dim of x]
inline std::vector<double> product(const float* weight, const std::vector<double>& x, int64_t outputs) {
  std::vector<double> y(static_cast<size_t>(outputs), 0.0);
  for (size_t o = 0; o < y.size(); ++o) {
    for (size_t i = 0; i < x.size(); ++i) y[o] += weight[o * x.size() + i] * x[i];
  }
  return y;
}
// An additive mechanism over rows [0, end).
void additive(const AttentionOptions&, const Parameters&, const Head&, int64_t t, int64_t end, double* out);

// y_t of all heads, [H, Dv]. Throws InvalidArgument for a mechanism without a plain form.
std::vector<double> attention_row(const AttentionSpec& spec, const AttentionShape& shape, const Parameters& parameters,
                                  const Sequence& rows, int64_t t, bool span = false, const RelativeBias& bias = {});

}  // namespace espalier::plain
