#include "attention/gated_delta/plain.h"

#include <cmath>
#include <vector>

#include "attention/shared/decay_plain.h"

namespace espalier::plain {
namespace {

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

}  // namespace

void gated_delta(const GatedDeltaOptions& options, const Parameters& parameters, const Head& all, int64_t t,
                 double* out) {
  Head head = all;
  Sequence rows;
  if (options.convolution.taps > 0) {
    const bool silu = options.convolution.silu;
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
  finish(options.norm, parameters, head, memory.read(unit(head.q(t), memory.dim)), out);
}

void gated_delta(const AttentionOptions& options, const Parameters& parameters, const Head& head, int64_t t,
                 double* out) {
  gated_delta(GatedDeltaOptions::of(options), parameters, head, t, out);
}

}  // namespace espalier::plain
