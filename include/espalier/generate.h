// Text after a prompt.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "espalier/state.h"

namespace espalier {

struct GenerateSettings {
  int64_t max_tokens = 128;
  double temperature = 0;              // 0 takes the likeliest token
  int64_t top_k = 0;                   // sample from so many of the likeliest; 0: from all
  double top_p = 1;                    // sample from the smallest set with this probability
  double min_p = 0;                    // leave out tokens below this share of the likeliest
  double repeat_penalty = 1;           // above 1: tokens of the last 64 become less likely
  uint64_t seed = 0;                   // same seed, same text
  std::vector<std::string> stop = {};  // texts that end the output and are not part of it
  bool ignore_eos = false;             // the model's end tokens do not end the output
  // Drafts that the model verifies many at a time. They change the speed alone: the text is the same, bit for bit.
  bool speculate = true;
  // Called with whole characters as they become certain; on the calling thread.
  std::function<void(std::string_view text)> on_text = {};
  // Asked before each step of the model: true ends the text there.
  std::function<bool()> cancelled = {};
};

struct Generated {
  std::string text;             // without special tokens and stop texts
  std::vector<int32_t> tokens;  // the one that ended the output included
  std::string finish_reason;    // "stop", "length", "cancelled"
  int64_t prompt_tokens = 0;
  double tokens_per_step = 0;  // after the first token: how much speculation gave
  double tokens_per_second = 0;
};

// Goes on from `state` with `prompt`, and leaves the state after prompt and output there. A state before any text
// begins one, with what the checkpoint puts before it; the prompt is taken as it stands. Throws InvalidArgument for a
// setting out of range, an empty or too long prompt, NotSupported for a model that writes no text by itself.
ESPALIER_API Generated generate(Session& session, State& state, std::string_view prompt,
                                const GenerateSettings& settings = {});
// One text from its beginning.
ESPALIER_API Generated generate(Session& session, std::string_view prompt, const GenerateSettings& settings = {});

// `message` as a user's, in the model's chat format, up to the assistant's header: what to hand to generate() as tokens
// of a conversation whose state is `state`. Throws NotSupported for a model without a known format.
ESPALIER_API Generated reply(Session& session, State& state, std::string_view message,
                             const GenerateSettings& settings = {});

}  // namespace espalier
