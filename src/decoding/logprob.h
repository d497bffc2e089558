// Log-probabilities from logits: one routine for `generate` and `score`, so that they agree bit for bit.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/kernels.h"

namespace espalier {

// log softmax(logits)[token]; logits [V].
inline float token_logprob(const Kernels& kernels, const float* logits, int64_t vocab_size, int32_t token) {
  return static_cast<float>(static_cast<double>(logits[token]) - kernels.log_sum_exp(logits, vocab_size));
}

// The greatest logit's id; the lowest on a tie.
int32_t argmax(const float* logits, int64_t vocab_size);

struct TokenLogprob {
  int32_t token;
  float logprob;
};
// The `count` most probable tokens, descending; ties to the lowest id.
std::vector<TokenLogprob> top_logprobs(const Kernels& kernels, const float* logits, int64_t vocab_size, int64_t count);

}  // namespace espalier
