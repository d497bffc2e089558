#include "attention/shared/plain.h"

namespace espalier::plain {

// y_t = sum_s phi(q_t).phi(k_s) v_s / d(sum_s phi(q_t).phi(k_s))
void additive(const AttentionOptions& options, const Parameters& parameters, const Head& head, int64_t t, int64_t end,
              double* out) {
  const AdditiveCard& form = options.card().additive;
  const std::vector<double> query = form.features({options, parameters, head, t, true});
  std::vector<double> weights;
  double sum = 0;
  for (int64_t s = 0; s < end; ++s) {
    const std::vector<double> key = form.features({options, parameters, head, s, false});
    double weight = 0;
    for (size_t m = 0; m < key.size(); ++m) weight += query[m] * key[m];
    weights.push_back(weight);
    sum += weight;
  }
  for (int64_t s = 0; s < end; ++s) head.add_v(s, weights[static_cast<size_t>(s)] / form.denominator(sum), out);
  if (form.rms && head.norm_of_heads) *head.norm_of_heads = true;
}

}  // namespace espalier::plain
