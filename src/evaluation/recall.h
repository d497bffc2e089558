// What a model still knows of what it read a while ago: what perplexity hides.
#pragma once

#include <cstdint>
#include <span>

#include "evaluation/windows.h"
#include "models/model.h"
#include "tokenizers/tokenizer.h"

namespace espalier {

struct RecallOptions {
  int64_t copy_tokens = 128;  // of a repeated passage
  int64_t gap_tokens = 256;   // other text between the copies, and between a probe and its question
  int64_t trials = 16;        // repeated passages, evenly spread over the text
  int64_t probes = 16;        // of each kind
  uint64_t seed = 0;          // of the probes' words

  // Throws InvalidArgument naming the option and its range.
  void check() const;
};

struct RecallResult {
  int64_t n = 0;  // predicted tokens of all second copies
  // Mean perplexity of a passage, a gap, and the same passage again. The first token of a copy is not counted: nothing
  // announces it.
  double first_copy_perplexity = 0, second_copy_perplexity = 0;
  // Greedy generation. Copy: a list of random words, a gap, the list's beginning; the share of the other words' tokens
  // that come in their places. Look-up: "The code of NAME is NUMBER." for several names, a gap, one of the names again;
  // the share of probes with the right number.
  double copy_share = 0, lookup_share = 0;
};

// `text` holds the passages and the gaps. Deterministic. Throws InvalidArgument for a text too short for one trial.
RecallResult recall(const Model& model, const Tokenizer& tokenizer, std::span<const int32_t> text,
                    const RecallOptions& options, Workspace& workspace, const EvaluationProgress& progress = {});

}  // namespace espalier
