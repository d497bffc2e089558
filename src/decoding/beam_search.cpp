#include "decoding/beam_search.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "core/error.h"
#include "decoding/engine.h"
#include "decoding/logprob.h"

namespace espalier {

BeamSequence::BeamSequence(const Model& model, GenerateRequest request, const BeamOptions& options)
    : model_(model), request_(std::move(request)), options_(options), max_tokens_(request_.options.max_tokens) {
  if (request_.prompt.empty()) throw InvalidArgument(error_text("prompt", "at least one token", "none"));
  if (options.beams < 1 || !std::isfinite(options.length_penalty)) {
    throw InvalidArgument(error_text("beams", "1 or more, and a finite length penalty", std::to_string(options.beams)));
  }
  OpenBeam first;
  first.state = request_.state.empty() ? model.new_state() : std::move(request_.state);
  const int64_t length = first.state.length() + static_cast<int64_t>(request_.prompt.size());
  int64_t limit = model.max_positions();
  if (length > limit) {
    throw InvalidArgument(error_text("prompt", "at most " + std::to_string(limit) + " tokens", std::to_string(length)));
  }
  if (request_.options.max_context > 0) limit = std::min(limit, request_.options.max_context);
  max_tokens_ = std::min(max_tokens_, limit - length);
  finished_ = max_tokens_ <= 0;
  open_.push_back(std::move(first));
}

bool BeamSequence::ends(int32_t token) const {
  const std::vector<int32_t>& ids = request_.options.end_ids;
  return !request_.options.ignore_eos && std::find(ids.begin(), ids.end(), token) != ids.end();
}

double BeamSequence::score(double sum, int64_t length) const {
  return sum / std::pow(static_cast<double>(length), options_.length_penalty);
}

bool BeamSequence::can_improve() const {
  if (static_cast<int64_t>(closed_.size()) < options_.beams) return true;
  return score(open_.front().sum, length_) > closed_.back().score;
}

void BeamSequence::cancel() {
  if (finished_) return;
  finished_ = true;
  closed_ = {{open_.front().tokens, score(open_.front().sum, std::max<int64_t>(1, length_)), FinishReason::kCancelled}};
}

void BeamSequence::plan(const StepLimits& limits, std::vector<Segment>& segments) {
  if (!decoding()) {
    const size_t rows = std::min(static_cast<size_t>(limits.prompt_rows), request_.prompt.size() - fed_);
    if (rows == 0) return;
    segments.push_back({.state = &open_.front().state,
                        .tokens = std::span(request_.prompt).subspan(fed_, rows),
                        .wanted = fed_ + rows == request_.prompt.size() ? Wanted::kLast : Wanted::kNone});
    return;
  }
  for (const OpenBeam& beam : open_) {
    segments.push_back({.state = &beam.state, .tokens = std::span(beam.tokens).last(1)});
  }
}

void BeamSequence::take(const StepOutput& output, size_t first) {
  std::vector<const float*> logits;
  for (size_t b = 0; b < open_.size(); ++b) {
    const Pending& pending = output.pending[first + b];
    logits.push_back(output.logits(first + b, pending.rows() - 1));
    model_.commit_chain(open_[b].state, pending, pending.rows());
    if (!decoding()) fed_ += static_cast<size_t>(pending.rows());
  }
  if (decoding()) extend(logits);
}

// The likeliest continuations of all open beams, best first: enough that `beams` of them do not end.
std::vector<BeamSequence::Candidate> BeamSequence::candidates(std::span<const float* const> logits) const {
  const int64_t vocab_size = model_.config().vocab_size;
  const size_t end_ids = request_.options.ignore_eos ? 0 : request_.options.end_ids.size();
  const size_t wanted = static_cast<size_t>(options_.beams) * std::max<size_t>(2, 1 + end_ids);
  std::vector<Candidate> all;
  for (size_t b = 0; b < open_.size(); ++b) {
    for (const TokenLogprob& next : top_logprobs(model_.kernels(), logits[b], vocab_size,
                                                 std::min<int64_t>(vocab_size, static_cast<int64_t>(wanted)))) {
      all.push_back({b, next.token, open_[b].sum + next.logprob});
    }
  }
  std::stable_sort(all.begin(), all.end(), [](const Candidate& a, const Candidate& b) { return a.sum > b.sum; });
  if (all.size() > wanted) all.resize(wanted);
  return all;
}

void BeamSequence::extend(std::span<const float* const> logits) {
  const std::vector<Candidate> best = candidates(logits);
  ++length_;
  std::vector<Candidate> kept;
  for (size_t rank = 0; rank < best.size(); ++rank) {
    const Candidate& candidate = best[rank];
    if (!ends(candidate.token) && length_ < max_tokens_) {
      if (static_cast<int64_t>(kept.size()) < options_.beams) kept.push_back(candidate);
    } else if (static_cast<int64_t>(rank) < options_.beams) {
      close(candidate);
    }
  }
  keep(kept);
  finished_ = length_ == max_tokens_ || open_.empty() || !can_improve();
}

void BeamSequence::close(const Candidate& candidate) {
  Beam beam{open_[candidate.beam].tokens, score(candidate.sum, length_),
            ends(candidate.token) ? FinishReason::kStop : FinishReason::kLength};
  beam.tokens.push_back(candidate.token);
  const auto place = std::upper_bound(closed_.begin(), closed_.end(), beam,
                                      [](const Beam& a, const Beam& b) { return a.score > b.score; });
  closed_.insert(place, std::move(beam));
  if (static_cast<int64_t>(closed_.size()) > options_.beams) closed_.pop_back();
}

// The kept candidates become the open beams, forks of those that they come from.
void BeamSequence::keep(const std::vector<Candidate>& kept) {
  std::vector<OpenBeam> next;
  for (const Candidate& candidate : kept) {
    const OpenBeam& from = open_[candidate.beam];
    next.push_back({from.tokens, candidate.sum, from.state});
    next.back().tokens.push_back(candidate.token);
  }
  open_ = std::move(next);
}

std::vector<Beam> beam_search(const Model& model, const GenerateRequest& request, const BeamOptions& options,
                              Workspace& workspace, const std::atomic<bool>* cancelled) {
  Engine engine(model, workspace);
  const auto sequence = std::make_shared<BeamSequence>(model, request, options);
  engine.admit(sequence);
  do {
    if (cancelled && *cancelled) sequence->cancel();
  } while (engine.step());
  return std::move(*sequence).result();
}

}  // namespace espalier
