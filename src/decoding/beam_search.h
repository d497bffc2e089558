// Beam search: the likeliest whole texts instead of the likeliest next token, with the rules of transformers.
//
// Each step extends every open beam by one token and keeps the likeliest that do not end; of the others, those among
// the first `beams` are finished, scored by sum of log-probabilities / length^length_penalty, length in new tokens.
// It is over once no open beam can, at its present length, pass the worst of `beams` finished ones.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

#include "decoding/generate.h"
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

// The finished beams after request.state and request.prompt, best first; at most options.beams. Of request.options,
// max_tokens, max_context, end_ids and ignore_eos count. A cancelled search gives its best open beam. Throws
// InvalidArgument for an empty prompt or options out of range.
std::vector<Beam> beam_search(const Model& model, const GenerateRequest& request, const BeamOptions& options,
                              Workspace& workspace, const std::atomic<bool>* cancelled = nullptr);

}  // namespace espalier
