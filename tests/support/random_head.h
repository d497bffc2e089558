// Draft heads of random numbers, for tiny models.
#pragma once

#include <memory>

#include "core/rng.h"
#include "decoding/drafters/draft_head.h"

namespace espalier::testing {

struct RandomHead {
  MemoryTensorSource tensors;
  DraftHeadInfo info;

  // Guesses the tokens 0, 2, 4, …
  RandomHead(const ModelConfig& config, int64_t width, uint64_t seed) {
    const int64_t d = config.hidden_size;
    Random random(seed);
    const auto add = [&](const char* name, const std::vector<int64_t>& shape, float scale, float mean) {
      std::vector<float> values(static_cast<size_t>(shape[0] * (shape.size() > 1 ? shape[1] : 1)));
      for (float& value : values) value = mean + scale * random.normal();
      tensors.add(name, shape, std::move(values));
    };
    add("in", {width, 2 * d}, 0.2f, 0.0f);
    add("out", {d, width}, 0.2f, 0.0f);
    add("state_norm", {d}, 0.1f, 1.0f);
    add("token_norm", {d}, 0.1f, 1.0f);
    for (int32_t token = 0; token < config.vocab_size; token += 2) info.tokens.push_back(token);
  }
};

}  // namespace espalier::testing
