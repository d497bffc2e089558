#include "attention/linformer/linformer.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "attention/shared/plain.h"

namespace espalier::plain {

// softmax over summaries of groups <= g - 2 and the rows of g - 1 and g
void linformer(const AttentionOptions& given, const Parameters& parameters, const Head& head, int64_t t, double* out) {
  const LinformerOptions options = LinformerOptions::of(given);
  const int dim = head.shape.dim_k, dim_v = head.shape.dim_v;
  std::vector<std::vector<double>> keys, values;
  const auto row = [](const float* x, int n) { return std::vector<double>(x, x + n); };
  for (int64_t group = 0; group < t / options.group - 1; ++group) {
    for (int64_t r = 0; r < options.rank; ++r) {
      std::vector<double> key(static_cast<size_t>(dim), 0.0), value(static_cast<size_t>(dim_v), 0.0);
      for (int64_t p = 0; p < options.group; ++p) {
        const size_t at = static_cast<size_t>((head.kv_head() * options.rank + r) * options.group + p);
        for (int d = 0; d < dim; ++d) key[d] += double{parameters[0][at]} * head.k(group * options.group + p)[d];
        for (int c = 0; c < dim_v; ++c) value[c] += double{parameters[1][at]} * head.v(group * options.group + p)[c];
      }
      keys.push_back(key);
      values.push_back(value);
    }
  }
  for (int64_t s = std::max<int64_t>(0, (t / options.group - 1) * options.group); s <= t; ++s) {
    keys.push_back(row(head.k(s), dim));
    values.push_back(row(head.v(s), dim_v));
  }
  std::vector<double> weights;
  double greatest = -HUGE_VAL, sum = 0;
  for (const auto& key : keys) {
    double score = 0;
    for (int d = 0; d < dim; ++d) score += key[d] * head.q(t)[d];
    weights.push_back(score / std::sqrt(static_cast<double>(dim)));
    greatest = std::max(greatest, weights.back());
  }
  for (double& weight : weights) sum += weight = std::exp(weight - greatest);
  for (size_t i = 0; i < weights.size(); ++i) {
    for (int c = 0; c < dim_v; ++c) out[c] += weights[i] / sum * values[i][c];
  }
}

}  // namespace espalier::plain
