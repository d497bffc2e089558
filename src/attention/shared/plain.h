// The attention mechanisms as their definitions read: f64, every pair of rows, no state, no groups of work. What is
// fast is measured against this.
#pragma once

#include <cstdint>
#include <vector>

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

// One mechanism, one head: out [Dv] += y_t.
using Form = void (*)(const AttentionSpec& spec, const Parameters& parameters, const Head& head, int64_t t,
                      double* out);
void softmax(const AttentionSpec&, const Parameters&, const Head&, int64_t t, double* out);
void flash_local(const AttentionSpec&, const Parameters&, const Head&, int64_t t, double* out);
void flash_global(const AttentionSpec&, const Parameters&, const Head&, int64_t t, double* out);
void conv(const AttentionSpec&, const Parameters&, const Head&, int64_t t, double* out);
void flash(const AttentionSpec&, const Parameters&, const Head&, int64_t t, double* out);
void augmented(const AttentionSpec&, const Parameters&, const Head&, int64_t t, double* out);
void lolcats(const AttentionSpec&, const Parameters&, const Head&, int64_t t, double* out);
void window(const AttentionSpec&, const Parameters&, const Head&, int64_t t, double* out);
void retention(const AttentionSpec&, const Parameters&, const Head&, int64_t t, double* out);
void gla(const AttentionSpec&, const Parameters&, const Head&, int64_t t, double* out);
void gated_delta(const AttentionSpec&, const Parameters&, const Head&, int64_t t, double* out);
void gau(const AttentionSpec&, const Parameters&, const Head&, int64_t t, double* out);
void hybrid(const AttentionSpec&, const Parameters&, const Head&, int64_t t, double* out);
void linformer(const AttentionSpec&, const Parameters&, const Head&, int64_t t, double* out);
void yoso(const AttentionSpec&, const Parameters&, const Head&, int64_t t, double* out);
void transnormer(const AttentionSpec&, const Parameters&, const Head&, int64_t t, double* out);
// Additive mechanisms over rows [0, end); false when the name is none of theirs.
bool additive(const AttentionSpec&, const Parameters&, const Head&, int64_t t, int64_t end, double* out);

// Pieces. max([softmax(x W), softmax(-x W)], 1e-12); weights [heads, D, F]
std::vector<double> hedgehog(const float* x, const std::vector<float>& weights, int head, int heads, int dim);

// y_t of all heads, [H, Dv]. Throws InvalidArgument for a mechanism without a plain form.
std::vector<double> attention_row(const AttentionSpec& spec, const AttentionShape& shape, const Parameters& parameters,
                                  const Sequence& rows, int64_t t, bool span = false, const RelativeBias& bias = {});

}  // namespace espalier::plain
