#include "decoding/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "core/error.h"
#include "core/rng.h"
#include "decoding/logprob.h"
#include "decoding/selection.h"

namespace espalier {
namespace {

constexpr double kGreedyBelow = 1e-6;
constexpr float kLowest = -std::numeric_limits<float>::infinity();

void require(bool holds, const char* option, const char* range, double got) {
  if (!holds) throw InvalidArgument(error_text(option, range, std::to_string(got)));
}

// The first candidate whose sum of weights passes the uniform share of all.
template <class CandidateAt>
int32_t draw(double uniform, int64_t count, const CandidateAt& at) {
  double total = 0;
  for (int64_t i = 0; i < count; ++i) total += static_cast<double>(at(i).weight);
  const double wanted = uniform * total;
  double sum = 0;
  int32_t last = -1;
  for (int64_t i = 0; i < count; ++i) {
    const auto candidate = at(i);
    if (!(candidate.weight > 0)) continue;
    last = candidate.token;
    sum += static_cast<double>(candidate.weight);
    if (sum > wanted) break;
  }
  return last;
}

}  // namespace

void SamplerOptions::check() const {
  require(temperature >= 0 && temperature <= 1e6, "temperature", "a number in [0, 1e6]", temperature);
  require(top_k >= 0, "top-k", "0 (all) or more", static_cast<double>(top_k));
  require(top_p > 0 && top_p <= 1, "top-p", "a number in (0, 1]", top_p);
  require(min_p >= 0 && min_p <= 1, "min-p", "a number in [0, 1]", min_p);
  require(repeat_penalty > 0 && std::isfinite(repeat_penalty), "repeat-penalty", "a number above 0", repeat_penalty);
  require(repeat_last_n >= -1, "repeat-last-n", "-1 (all) or more", static_cast<double>(repeat_last_n));
}

Sampler::Sampler(const SamplerOptions& options, const Kernels& kernels, int64_t vocab_size, uint64_t sequence)
    : options_(options), kernels_(kernels), vocab_size_(vocab_size), sequence_(sequence) {
  options_.check();
}

const float* Sampler::penalised(const float* logits, std::span<const int32_t> history) {
  if (options_.repeat_penalty == 1.0 || options_.repeat_last_n == 0) return logits;
  scores_.assign(logits, logits + vocab_size_);
  stamp_.resize(static_cast<size_t>(vocab_size_), 0);
  ++round_;
  if (options_.repeat_last_n > 0) {
    history = history.last(std::min(history.size(), static_cast<size_t>(options_.repeat_last_n)));
  }
  const float penalty = static_cast<float>(options_.repeat_penalty);
  for (const int32_t token : history) {
    if (token < 0 || token >= vocab_size_ || stamp_[token] == round_) continue;
    stamp_[token] = round_;
    scores_[token] = scores_[token] < 0 ? scores_[token] * penalty : scores_[token] / penalty;
  }
  return scores_.data();
}

template <class ScoreOf>
void Sampler::weigh(int64_t count, float greatest, const ScoreOf& score_of) {
  const float inverse = static_cast<float>(1.0 / options_.temperature);
  weights_.resize(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) {
    const float difference = score_of(i) - greatest;
    weights_[i] = (difference <= 0 ? difference : kLowest) * inverse;  // NaN is never drawn
  }
  kernels_.exp_sum(weights_.data(), 0.0f, count, weights_.data());
}

bool Sampler::cut_nucleus(double total) {
  candidates_.clear();
  const double wanted = options_.top_p * total;
  double sum = 0;
  for (size_t i = 0; i < ids_.size() && (i == 0 || options_.top_p == 1.0 || sum < wanted); ++i) {
    sum += static_cast<double>(weights_[i]);
    candidates_.push_back({ids_[i], weights_[i]});
  }
  const bool reached = sum >= wanted;
  const double likely = options_.min_p * static_cast<double>(candidates_.front().weight);
  while (candidates_.size() > 1 && static_cast<double>(candidates_.back().weight) < likely) candidates_.pop_back();
  return reached;
}

void Sampler::keep_greatest(const float* scores, float greatest) {
  select_greatest(scores, vocab_size_, options_.top_k, ids_);
  weigh(static_cast<int64_t>(ids_.size()), greatest, [&](int64_t i) { return scores[ids_[i]]; });
  double total = 0;
  for (const float weight : weights_) total += static_cast<double>(weight);
  cut_nucleus(total);
}

void Sampler::keep_nucleus(const float* scores) {
  const std::vector<float> all = weights_;
  double total = 0;
  for (const float weight : all) total += static_cast<double>(weight);
  for (int64_t count = 64;; count *= 8) {
    select_greatest(scores, vocab_size_, count, ids_);
    weights_.clear();
    for (const int32_t id : ids_) weights_.push_back(all[id]);
    if (cut_nucleus(total) || count >= vocab_size_) return;
  }
}

void Sampler::keep_likely() {
  candidates_.clear();
  for (int64_t i = 0; i < vocab_size_; ++i) {
    // The greatest weight is 1.
    if (static_cast<double>(weights_[i]) >= options_.min_p)
      candidates_.push_back({static_cast<int32_t>(i), weights_[i]});
  }
}

int32_t Sampler::sample(const float* logits, std::span<const int32_t> history, int64_t position) {
  const float* scores = penalised(logits, history);
  const float top = greatest(scores, vocab_size_);
  if (!std::isfinite(top)) throw Internal(error_text("sampler", "finite logits", std::to_string(top)));
  if (options_.temperature < kGreedyBelow) return argmax(scores, vocab_size_);

  const double uniform = random_uniform(options_.seed, sequence_, static_cast<uint64_t>(position));
  if (options_.top_k > 0 && options_.top_k < vocab_size_) {
    keep_greatest(scores, top);
  } else {
    weigh(vocab_size_, top, [&](int64_t i) { return scores[i]; });
    if (options_.top_p == 1.0 && options_.min_p == 0.0) {
      return draw(uniform, vocab_size_, [&](int64_t i) { return Candidate{static_cast<int32_t>(i), weights_[i]}; });
    }
    options_.top_p < 1.0 ? keep_nucleus(scores) : keep_likely();
  }
  std::sort(candidates_.begin(), candidates_.end(),
            [](const Candidate& a, const Candidate& b) { return a.token < b.token; });
  return draw(uniform, static_cast<int64_t>(candidates_.size()), [&](int64_t i) { return candidates_[i]; });
}

}  // namespace espalier
