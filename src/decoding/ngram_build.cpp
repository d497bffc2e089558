#include "decoding/ngram_build.h"

namespace espalier {

NgramTable build_ngram_table(const Model& model, const Tokenizer& tokenizer, Workspace& workspace,
                             std::span<const std::vector<int32_t>> prompts, const NgramBuildOptions& options) {
  NgramTableBuilder builder(model.config().vocab_size, vocabulary_hash(tokenizer));
  write_self_texts(model, workspace, prompts, options.texts,
                   [&](const SelfText& text) { builder.add(text.tokens, text.written); });
  return builder.build(options.max_bytes);
}

}  // namespace espalier
