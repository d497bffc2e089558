// Perplexity of a text: e^(mean negative log-likelihood of the predicted tokens).
#pragma once

#include <span>
#include <vector>

#include "evaluation/windows.h"
#include "models/model.h"

namespace espalier {

struct LossRange {
  int64_t begin, end;  // positions in the window, or offsets in the group: [begin, end)
  int64_t n = 0;       // predicted tokens
  double loss = 0;     // the sum of their negative log-likelihoods, nats

  double perplexity() const;  // NaN without tokens
};

struct PerplexityOptions {
  WindowOptions windows;
  int64_t bucket = 256;     // positions of a range of `by_position`
  int64_t group = 0;        // group size of the attention; 0: `by_offset` stays empty
  int64_t max_windows = 0;  // 0: all
};

struct PerplexityResult {
  int64_t n = 0;  // predicted tokens
  double loss = 0;
  std::vector<LossRange> by_position;  // where in its window the predicted token stands
  std::vector<LossRange> by_offset;    // position modulo group, in eighths of the group

  double perplexity() const;
};

// Deterministic; the same for any number of threads. Throws InvalidArgument for an option out of range or a text of
// fewer than two tokens.
PerplexityResult perplexity(const Model& model, std::span<const int32_t> tokens, const PerplexityOptions& options,
                            Workspace& workspace, const EvaluationProgress& progress = {});

// The group of the model's first grouped attention; 0 if there is none.
int64_t attention_group(const Model& model);

}  // namespace espalier
