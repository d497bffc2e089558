// The options of verbs that write text: sampling, speculation, and how a conversation becomes a prompt.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "cli/model_arguments.h"
#include "decoding/drafters/draft_head.h"
#include "decoding/drafters/ngram_table.h"
#include "decoding/generate.h"
#include "tokenizers/chat_format.h"

namespace espalier {

// What drafts come from, loaded.
struct LoadedDrafts {
  std::unique_ptr<NgramTable> table;
  std::unique_ptr<DraftHead> head;
  std::unique_ptr<Model> model;

  DraftSources sources() const { return {table.get(), head.get(), model.get()}; }
};

struct DecodingArguments {
  GenerateOptions options;
  std::string speculate = "auto", ngram_table, draft_head, draft_model, system, chat_format;

  void add_to(CLI::App& app);
  // `options` complete: speculation mode and the model's end ids.
  GenerateOptions complete(const ModelFiles& files) const;
  // Those that were named. `model` is the one that is drafted for, run as `arguments` say.
  LoadedDrafts drafts(const ModelArguments& arguments, const ModelFiles& files, const Tokenizer& tokenizer,
                      const Model& model) const;
  // The format that --chat-format names, else that of the checkpoint's template. --system replaces its default.
  ChatFormat format(const ModelFiles& files) const;
  // The tokens of a user's message up to the assistant's header: the first of a conversation, which --system opens,
  // or one that follows the tokens `past`.
  std::vector<int32_t> message_tokens(const Tokenizer& tokenizer, const ChatFormat& format, const std::string& message,
                                      std::span<const int32_t> past) const;
};

// Begins with the step times that an earlier run measured, and keeps those of this one at its end; where the user's
// cache folder cannot be written, every run measures anew.
class StepTimesOfUser {
 public:
  StepTimesOfUser(Generator& generator, const Model& model, const ModelArguments& arguments);
  ~StepTimesOfUser();

 private:
  Generator& generator_;
  std::string key_;
};

// One line about a reply: tokens, speed, how much speculation gave.
std::string statistics_text(const GenerateResult& result, size_t prompt_tokens);

}  // namespace espalier
