// Beam search: the likeliest whole texts instead of the likeliest next token, with the rules of transformers.
//
// Each step extends every open beam by one token and keeps the likeliest that do not end; of the others, those among
// the first `beams` are finished, scored by sum of log-probabilities / length^length_penalty, length in new tokens.
// It is over once no open beam can, at its present length, pass the worst of `beams` finished ones.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "decoding/generate.h"
#include "decoding/sequence.h"
#include "models/model.h"

namespace espalier {

struct BeamOptions {
  int64_t beams = 4;
  double length_penalty = 1.0;
};

struct Beam {
  std::vector<int32_t> tokens;  // without the prompt; the one that ended it included
  double score = 0;
  FinishReason finish_reason = FinishReason::kLength;
};

// Its beams are segments of one step, forks of one state.
class BeamSequence : public Sequence {
 public:
  // As beam_search(). `model` must outlive this.
  BeamSequence(const Model& model, GenerateRequest request, const BeamOptions& options);

  bool finished() const override { return finished_; }
  bool decoding() const override { return fed_ == request_.prompt.size(); }
  void cancel() override;
  void plan(const StepLimits& limits, std::vector<Segment>& segments) override;
  void take(const StepOutput& output, size_t first) override;

  // The finished beams, best first.
  std::vector<Beam> result() && { return std::move(closed_); }

 private:
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
  bool ends(int32_t token) const;
  double score(double sum, int64_t length) const;
  bool can_improve() const;
  std::vector<Candidate> candidates(std::span<const float* const> logits) const;
  // One token more for every open beam, of which logits[i] follows the i-th.
  void extend(std::span<const float* const> logits);
  void close(const Candidate& candidate);
  void keep(const std::vector<Candidate>& kept);

  const Model& model_;
  GenerateRequest request_;
  BeamOptions options_;
  int64_t max_tokens_;
  size_t fed_ = 0;              // tokens of the prompt in the state
  int64_t length_ = 0;          // tokens of every open beam
  std::vector<OpenBeam> open_;  // likeliest first
  std::vector<Beam> closed_;    // best first
  bool finished_ = false;
};

// The finished beams after request.state and request.prompt, best first; at most options.beams. Of request.options,
// max_tokens, max_context, end_ids and ignore_eos count. A cancelled search gives its best open beam. Throws
// InvalidArgument for an empty prompt or options out of range.
std::vector<Beam> beam_search(const Model& model, const GenerateRequest& request, const BeamOptions& options,
                              Workspace& workspace, const std::atomic<bool>* cancelled = nullptr);

}  // namespace espalier
