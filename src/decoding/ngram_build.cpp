#include "decoding/ngram_build.h"

#include <algorithm>

#include "core/error.h"
#include "decoding/generate.h"

namespace espalier {

NgramTable build_ngram_table(const Model& model, const Tokenizer& tokenizer, Workspace& workspace,
                             std::span<const std::vector<int32_t>> prompts, const NgramBuildOptions& options) {
  if (prompts.empty()) throw InvalidArgument(error_text("n-gram table", "at least one prompt", "none"));
  NgramTableBuilder builder(model.config().vocab_size, vocabulary_hash(tokenizer));
  Generator generator(model, nullptr, workspace);
  int64_t done = 0, done_in_round = 0;
  for (uint64_t next = 0; done < options.tokens && !(options.cancelled && *options.cancelled);) {
    const uint64_t round = next / prompts.size();
    if (next % prompts.size() == 0) done_in_round = 0;
    std::vector<GenerateRequest> requests;
    // A batch stays within one round.
    for (; requests.size() < static_cast<size_t>(options.batch) && next / prompts.size() == round; ++next) {
      GenerateRequest request{.prompt = prompts[next % prompts.size()], .sequence = next};
      request.options.max_tokens = std::min(options.tokens_per_prompt, options.tokens - done);
      request.options.end_ids = options.end_ids;
      request.options.sampler = {.temperature = round == 0 ? 0.0 : options.temperature, .seed = options.seed};
      requests.push_back(std::move(request));
    }
    const std::vector<GenerateResult> results = generator.generate_batch(requests, options.cancelled);
    for (size_t i = 0; i < results.size(); ++i) {
      std::vector<int32_t> tokens = requests[i].prompt;
      tokens.insert(tokens.end(), results[i].tokens.begin(), results[i].tokens.end());
      builder.add(tokens, requests[i].prompt.size());
      done_in_round += static_cast<int64_t>(results[i].tokens.size());
      done += static_cast<int64_t>(results[i].tokens.size());
    }
    if (options.progress) options.progress(std::min(done, options.tokens), options.tokens);
    if (next % prompts.size() == 0 && done_in_round == 0) {
      throw InvalidArgument(error_text("n-gram table", "prompts that the model goes on from", "none"));
    }
  }
  return builder.build(options.max_bytes);
}

}  // namespace espalier
