// How likely a model finds a text, token by token.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "models/model.h"

namespace espalier {

struct TextToScore {
  std::span<const int32_t> tokens;       // at most as many as the model has positions
  std::span<const int32_t> token_types;  // of encoders; empty: all 0
  std::span<const int32_t> source;       // of an encoder-decoder: what the text is about
};

// Of a decoder: each token given those before it; the first has none. Of an encoder-decoder: each token given the
// source, too, the first included. Of an encoder: what each position says stands there, where it has a head for words,
// and what its classification head says.
struct TextScores {
  std::vector<float> logprobs;     // natural logarithms
  std::vector<int32_t> likeliest;  // of a decoder: after each token; else at it
  std::vector<float> labels;       // logits of classes
  bool first_has_logprob = false;  // logprobs begin with the first token's
};

// `logits` (may be null) receives [T, V].
TextScores score_text(const Model& model, const TextToScore& text, Workspace& workspace, std::vector<float>* logits);

}  // namespace espalier
