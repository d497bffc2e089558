#include "decoding/logprob.h"

#include <algorithm>

#include "decoding/selection.h"

namespace espalier {

int32_t argmax(const float* logits, int64_t vocab_size) {
  // One pass over blocks; the first block that holds the maximum is then searched.
  constexpr int64_t kBlock = 1024;
  int64_t best_block = 0;
  float best = greatest(logits, std::min(kBlock, vocab_size));
  for (int64_t begin = kBlock; begin < vocab_size; begin += kBlock) {
    const float maximum = greatest(logits + begin, std::min(kBlock, vocab_size - begin));
    if (maximum > best) {
      best = maximum;
      best_block = begin;
    }
  }
  const float* end = logits + std::min(vocab_size, best_block + kBlock);
  const float* found = std::find(logits + best_block, end, best);
  return found == end ? 0 : static_cast<int32_t>(found - logits);
}

std::vector<TokenLogprob> top_logprobs(const Kernels& kernels, const float* logits, int64_t vocab_size, int64_t count) {
  std::vector<int32_t> ids;
  select_greatest(logits, vocab_size, count, ids);
  const double normaliser = kernels.log_sum_exp(logits, vocab_size);
  std::vector<TokenLogprob> top;
  for (const int32_t id : ids) top.push_back({id, static_cast<float>(static_cast<double>(logits[id]) - normaliser)});
  return top;
}

}  // namespace espalier
