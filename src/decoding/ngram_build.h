// Makes an n-gram table out of what a model itself writes: what it wrote before is what it is likely to write again.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "decoding/drafters/ngram_table.h"
#include "models/model.h"
#include "tokenizers/tokenizer.h"

namespace espalier {

struct NgramBuildOptions {
  int64_t tokens = 20000;           // to generate in all
  int64_t tokens_per_prompt = 256;  // at most, each time
  int64_t batch = 8;                // prompts at a time
  double temperature = 0.7;         // of the second and later texts of a prompt; the first is greedy
  uint64_t seed = 0;
  std::vector<int32_t> end_ids;                               // end a text
  size_t max_bytes = 1'500'000;                               // of the file
  std::function<void(int64_t done, int64_t total)> progress;  // tokens, after each batch; may be null
  const std::atomic<bool>* cancelled = nullptr;               // ends early with what is there
};

// Generates from `prompts`, round after round, until enough tokens are there. Throws InvalidArgument for no prompts,
// or when none of them yields a token.
NgramTable build_ngram_table(const Model& model, const Tokenizer& tokenizer, Workspace& workspace,
                             std::span<const std::vector<int32_t>> prompts, const NgramBuildOptions& options);

}  // namespace espalier
