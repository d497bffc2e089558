#include "decoding/beam_search.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "core/error.h"
#include "decoding/logprob.h"

namespace espalier {
namespace {

struct OpenBeam {
  std::vector<int32_t> tokens;
  double sum = 0;  // of log-probabilities
  SequenceState state;
};

struct Candidate {
  size_t beam;
  int32_t token;
  double sum;
};

class Search {
 public:
  Search(const Model& model, const GenerateRequest& request, const BeamOptions& options, Workspace& workspace)
      : model_(model), options_(options), workspace_(workspace), max_tokens_(request.options.max_tokens) {
    if (request.prompt.empty()) throw InvalidArgument(error_text("prompt", "at least one token", "none"));
    if (options.beams < 1 || !std::isfinite(options.length_penalty)) {
      throw InvalidArgument(
          error_text("beams", "1 or more, and a finite length penalty", std::to_string(options.beams)));
    }
    if (!request.options.ignore_eos) end_ids_ = request.options.end_ids;
    OpenBeam first;
    first.state = request.state.layers.empty() ? model.new_state() : request.state;
    const int64_t length = first.state.length() + static_cast<int64_t>(request.prompt.size());
    if (length > model.max_positions()) {
      throw InvalidArgument(
          error_text("prompt", "at most " + std::to_string(model.max_positions()) + " tokens", std::to_string(length)));
    }
    int64_t limit = model.max_positions();
    if (request.options.max_context > 0) limit = std::min(limit, request.options.max_context);
    max_tokens_ = std::min(max_tokens_, limit - length);
    const auto before = std::span(request.prompt).first(request.prompt.size() - 1);
    model.prefill(first.state, before, workspace, nullptr, nullptr);
    last_of_prompt_ = request.prompt.back();
    open_.push_back(std::move(first));
  }

  std::vector<Beam> run(const std::atomic<bool>* cancelled) {
    for (int64_t length = 1; length <= max_tokens_; ++length) {
      if (cancelled && *cancelled)
        return {closed(open_.front(), std::max<int64_t>(1, length - 1), FinishReason::kCancelled)};
      step(length);
      if (open_.empty() || !can_improve(length)) break;
    }
    return std::move(finished_);
  }

 private:
  bool ends(int32_t token) const { return std::find(end_ids_.begin(), end_ids_.end(), token) != end_ids_.end(); }
  double score(double sum, int64_t length) const {
    return sum / std::pow(static_cast<double>(length), options_.length_penalty);
  }
  Beam closed(const OpenBeam& beam, int64_t length, FinishReason reason) const {
    return {beam.tokens, score(beam.sum, length), reason};
  }
  bool can_improve(int64_t length) const {
    if (static_cast<int64_t>(finished_.size()) < options_.beams) return true;
    return score(open_.front().sum, length) > finished_.back().score;
  }

  // The likeliest continuations of all open beams, best first: enough that `beams` of them do not end.
  std::vector<Candidate> candidates(const StepOutput& output) const {
    const int64_t vocab_size = model_.config().vocab_size;
    const size_t wanted = static_cast<size_t>(options_.beams) * std::max<size_t>(2, 1 + end_ids_.size());
    std::vector<Candidate> all;
    for (size_t b = 0; b < open_.size(); ++b) {
      for (const TokenLogprob& next : top_logprobs(model_.kernels(), output.logits(b, 0), vocab_size,
                                                   std::min<int64_t>(vocab_size, static_cast<int64_t>(wanted)))) {
        all.push_back({b, next.token, open_[b].sum + next.logprob});
      }
    }
    std::stable_sort(all.begin(), all.end(), [](const Candidate& a, const Candidate& b) { return a.sum > b.sum; });
    if (all.size() > wanted) all.resize(wanted);
    return all;
  }

  // One token more for every open beam; `length` counts it.
  void step(int64_t length) {
    std::vector<int32_t> last;
    for (const OpenBeam& beam : open_) last.push_back(beam.tokens.empty() ? last_of_prompt_ : beam.tokens.back());
    std::vector<Segment> segments;
    for (size_t b = 0; b < open_.size(); ++b) {
      segments.push_back({.state = &open_[b].state, .tokens = std::span(last).subspan(b, 1)});
    }
    model_.step(segments, workspace_, output_);
    const std::vector<Candidate> best = candidates(output_);
    for (size_t b = 0; b < open_.size(); ++b) model_.commit_chain(open_[b].state, output_.pending[b], 1);

    std::vector<Candidate> kept;
    for (size_t rank = 0; rank < best.size(); ++rank) {
      const Candidate& candidate = best[rank];
      if (!ends(candidate.token) && length < max_tokens_) {
        if (static_cast<int64_t>(kept.size()) < options_.beams) kept.push_back(candidate);
      } else if (static_cast<int64_t>(rank) < options_.beams) {
        finish(candidate, length);
      }
    }
    extend(kept);
  }

  void finish(const Candidate& candidate, int64_t length) {
    Beam beam{open_[candidate.beam].tokens, score(candidate.sum, length),
              ends(candidate.token) ? FinishReason::kStop : FinishReason::kLength};
    beam.tokens.push_back(candidate.token);
    const auto place = std::upper_bound(finished_.begin(), finished_.end(), beam,
                                        [](const Beam& a, const Beam& b) { return a.score > b.score; });
    finished_.insert(place, std::move(beam));
    if (static_cast<int64_t>(finished_.size()) > options_.beams) finished_.pop_back();
  }

  // The kept candidates become the open beams; the last that comes from a beam takes its state, the others copy it.
  void extend(const std::vector<Candidate>& kept) {
    std::vector<OpenBeam> next;
    for (size_t i = 0; i < kept.size(); ++i) {
      OpenBeam& from = open_[kept[i].beam];
      const bool again = std::any_of(kept.begin() + static_cast<std::ptrdiff_t>(i) + 1, kept.end(),
                                     [&](const Candidate& other) { return other.beam == kept[i].beam; });
      OpenBeam beam{from.tokens, kept[i].sum, again ? from.state : std::move(from.state)};
      beam.tokens.push_back(kept[i].token);
      next.push_back(std::move(beam));
    }
    open_ = std::move(next);
  }

  const Model& model_;
  BeamOptions options_;
  Workspace& workspace_;
  int64_t max_tokens_;
  std::vector<int32_t> end_ids_;
  int32_t last_of_prompt_ = 0;
  std::vector<OpenBeam> open_;  // likeliest first
  std::vector<Beam> finished_;  // best first
  StepOutput output_;
};

}  // namespace

std::vector<Beam> beam_search(const Model& model, const GenerateRequest& request, const BeamOptions& options,
                              Workspace& workspace, const std::atomic<bool>* cancelled) {
  return Search(model, request, options, workspace).run(cancelled);
}

}  // namespace espalier
