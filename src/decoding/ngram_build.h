// Makes an n-gram table out of what a model itself writes.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "decoding/drafters/ngram_table.h"
#include "decoding/self_text.h"

namespace espalier {

struct NgramBuildOptions {
  SelfTextOptions texts;
  size_t max_bytes = 1'500'000;  // of the file
};

// Throws InvalidArgument as write_self_texts() does.
NgramTable build_ngram_table(const Model& model, const Tokenizer& tokenizer, Workspace& workspace,
                             std::span<const std::vector<int32_t>> prompts, const NgramBuildOptions& options);

}  // namespace espalier
