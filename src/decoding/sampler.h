// From logits to a token: repetition penalty -> temperature -> top-k -> top-p -> min-p -> draw.
//
// The order and the meaning of each part are those of transformers' logits processors and warpers (llama.cpp's chain
// has the same parts, temperature last). Two differences, both for determinism: top-k keeps exactly k tokens, where
// transformers keeps all that tie with the k-th; every tie goes to the lowest id.
//
// A draw is a pure function of (logits, tokens before it, seed, sequence, position), so drafts, batch mates and
// threads cannot change it. Weights are the kernels' float exponentials (one routine on every instruction set), sums
// of weights are made in double, in ascending id; the top-p prefix is summed from the greatest on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/kernels.h"

namespace espalier {

struct SamplerOptions {
  double temperature = 0.0;     // below 1e-6: the greatest logit (after the penalty)
  int64_t top_k = 0;            // the k greatest; 0: all
  double top_p = 1.0;           // the smallest set of greatest tokens with at least this probability; 1: all
  double min_p = 0.0;           // at least this share of the greatest probability; 0: all
  double repeat_penalty = 1.0;  // logits of tokens seen before are divided by it (multiplied if negative); 1: off
  int64_t repeat_last_n = 64;   // how many tokens back the penalty looks, prompt included; -1: all
  uint64_t seed = 0;

  // Throws InvalidArgument naming the option and its range.
  void check() const;
};

// Holds scratch memory: one per sequence, not thread-safe.
class Sampler {
 public:
  // `sequence` tells sequences of one seed apart. Throws as SamplerOptions::check().
  Sampler(const SamplerOptions& options, const Kernels& kernels, int64_t vocab_size, uint64_t sequence);

  // logits [V]; `history` is the text so far; `position` is where the new token will stand. Throws Internal when no
  // logit is a number.
  int32_t sample(const float* logits, std::span<const int32_t> history, int64_t position);

 private:
  struct Candidate {
    int32_t token;
    float weight;  // e^((logit - greatest logit) / temperature)
  };

  const float* penalised(const float* logits, std::span<const int32_t> history);
  // weights_[i] = the weight of score_of(i), i < count.
  template <class ScoreOf>
  void weigh(int64_t count, float greatest, const ScoreOf& score_of);
  // Each fills candidates_: top-k and the others, top-p without top-k, min-p alone.
  void keep_greatest(const float* scores, float greatest);
  void keep_nucleus(const float* scores);
  void keep_likely();
  // candidates_ = ids_ (greatest first) up to the top-p share of `total`; false when they do not reach it.
  bool cut_nucleus(double total);

  SamplerOptions options_;
  const Kernels& kernels_;
  int64_t vocab_size_;
  uint64_t sequence_;
  std::vector<float> scores_;    // [V] penalised logits
  std::vector<uint32_t> stamp_;  // [V] the last penalty that saw this token
  uint32_t round_ = 0;
  std::vector<int32_t> ids_;
  std::vector<float> weights_;
  std::vector<Candidate> candidates_;
};

}  // namespace espalier
