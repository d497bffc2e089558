#include "attention/lolcats/plain.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "attention/conv/plain.h"
#include "attention/hedgehog/hedgehog.h"

namespace espalier::plain {

namespace {

// The definition stands in attention/lolcats/lolcats.h.
void mixed(const LolcatsOptions& options, const Parameters& parameters, const Head& head, int64_t t, double* out) {
  const int dim = head.shape.dim_k;
  const double scale = 1.0 / std::sqrt(static_cast<double>(dim));
  const auto is_row = [&](int64_t s) { return s < options.sinks || s / options.group >= t / options.group - 1; };
  double max = -std::numeric_limits<double>::infinity(), sum = 0;
  for (int64_t s = 0; s <= t; ++s) {
    if (is_row(s)) max = std::max(max, head.dot(t, s) * scale);
  }
  double gate = 0;
  std::vector<double> phi_q;
  if (options.linear) {
    double exponent = parameters[2][static_cast<size_t>(head.head)];
    for (int d = 0; d < dim; ++d) {
      exponent += double{parameters[3][static_cast<size_t>(head.head * dim + d)]} * head.q(t)[d];
    }
    gate = std::exp(exponent);
    // Rows that are neither in the window nor sinks.
    const int64_t older = std::max<int64_t>((t / options.group - 1) * options.group - options.sinks, 0);
    if (options.horizon > 0 && older > options.horizon) gate *= static_cast<double>(options.horizon) / older;
    phi_q = hedgehog(head.q(t), parameters[0], head.head, head.shape.heads, dim);
  }
  std::vector<double> weights;
  for (int64_t s = 0; s <= t; ++s) {
    double weight = 0;
    if (is_row(s)) {
      weight = std::exp(head.dot(t, s) * scale - max);
    } else if (options.linear) {
      const std::vector<double> phi_k = hedgehog(head.k(s), parameters[1], head.kv_head(), head.shape.heads_kv, dim);
      for (size_t f = 0; f < phi_k.size(); ++f) weight += gate * phi_q[f] * phi_k[f];
    }
    weights.push_back(weight);
    sum += weight;
  }
  for (int64_t s = 0; s <= t; ++s) head.add_v(s, weights[static_cast<size_t>(s)] / sum, out);
}

}  // namespace

void lolcats(const LolcatsOptions& options, const Parameters& parameters, const Head& head, int64_t t, double* out) {
  mixed(options, parameters, head, t, out);
  conv(options.taps, parameters, head, t, out);
}

void lolcats(const AttentionOptions& options, const Parameters& parameters, const Head& head, int64_t t, double* out) {
  lolcats(LolcatsOptions::of(options), parameters, head, t, out);
}

void window(const AttentionOptions& options, const Parameters& parameters, const Head& head, int64_t t, double* out) {
  lolcats(LolcatsOptions::of_window(options), parameters, head, t, out);
}

}  // namespace espalier::plain
