// Texts that a model writes itself, from prompts: what it wrote before is what it is likely to write again.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "models/model.h"
#include "tokenizers/chat_format.h"
#include "tokenizers/tokenizer.h"

namespace espalier {

struct SelfTextOptions {
  int64_t tokens = 20000;           // to generate in all
  int64_t tokens_per_prompt = 256;  // at most, each time
  int64_t batch = 8;                // prompts at a time
  double temperature = 0.7;         // of the second and later texts of a prompt; the first is greedy
  uint64_t seed = 0;
  std::vector<int32_t> end_ids;                               // end a text
  uint64_t first = 0;                                         // texts that are there already,
  int64_t done = 0;                                           // with so many tokens
  std::function<void(int64_t done, int64_t total)> progress;  // tokens, after each batch; may be null
  const std::atomic<bool>* cancelled = nullptr;               // ends early with what is there
};

// A prompt and what the model wrote after it: tokens[written …].
struct SelfText {
  std::vector<int32_t> tokens;
  size_t written;
};

// Generates from `prompts`, round after round, until enough tokens are there, and hands over each text. Throws
// InvalidArgument for no prompts, or when none of them yields a token.
void write_self_texts(const Model& model, Workspace& workspace, std::span<const std::vector<int32_t>> prompts,
                      const SelfTextOptions& options, const std::function<void(const SelfText&)>& each);

// The prompts of a file: a user's message on each line, as it stands or, where it has line breaks, as a JSON string;
// put into `format`, or without one taken as they are. Empty lines are skipped.
std::vector<std::vector<int32_t>> read_prompts(const std::string& text, const Tokenizer& tokenizer,
                                               const ChatFormat* format);

}  // namespace espalier
