#include "decoding/self_text.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/error.h"
#include "decoding/generate.h"

namespace espalier {

void write_self_texts(const Model& model, Workspace& workspace, std::span<const std::vector<int32_t>> prompts,
                      const SelfTextOptions& options, const std::function<void(const SelfText&)>& each) {
  if (prompts.empty()) throw InvalidArgument(error_text("prompts", "at least one", "none"));
  Generator generator(model, nullptr, workspace);
  int64_t done = options.done, done_in_round = 0;
  for (uint64_t next = options.first; done < options.tokens && !(options.cancelled && *options.cancelled);) {
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
      SelfText text{requests[i].prompt, requests[i].prompt.size()};
      text.tokens.insert(text.tokens.end(), results[i].tokens.begin(), results[i].tokens.end());
      each(text);
      done_in_round += static_cast<int64_t>(results[i].tokens.size());
      done += static_cast<int64_t>(results[i].tokens.size());
    }
    if (options.progress) options.progress(std::min(done, options.tokens), options.tokens);
    if (next % prompts.size() == 0 && done_in_round == 0) {
      throw InvalidArgument(error_text("prompts", "some that the model goes on from", "none"));
    }
  }
}

std::vector<std::vector<int32_t>> read_prompts(const std::string& text, const Tokenizer& tokenizer,
                                               const ChatFormat* format) {
  std::istringstream lines(text);
  std::vector<std::vector<int32_t>> prompts;
  for (std::string line; std::getline(lines, line);) {
    if (line.empty()) continue;
    const nlohmann::json json = line.front() == '"' ? nlohmann::json::parse(line, nullptr, false) : nlohmann::json();
    const ChatMessage message{"user", json.is_string() ? json.get<std::string>() : line};
    prompts.push_back(format ? encode_pieces(tokenizer, render_chat(*format, {&message, 1}))
                             : tokenizer.encode(message.content));
  }
  return prompts;
}

}  // namespace espalier
