#include <chrono>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>

#include "cli/model_arguments.h"
#include "core/error.h"
#include "core/progress.h"
#include "decoding/ngram_build.h"
#include "program/interrupt.h"

namespace espalier {
namespace {

struct Arguments {
  ModelArguments model;
  NgramBuildOptions options;
  std::string prompts, out, chat_format;
  bool plain = false, json = false;
};

int run(const Arguments& a) {
  const ModelFiles files = a.model.open();
  const auto tokenizer = required_tokenizer(files);
  const std::string lines = read_input(a.prompts);
  ChatFormat format;
  if (!a.plain) format = chat_format_for(a.chat_format, files.tokenizer.chat_template);
  const auto prompts = read_prompts(lines, *tokenizer, a.plain ? nullptr : &format);
  const auto model = a.model.load(files);
  Workspace workspace(a.model.thread_count());
  NgramBuildOptions options = a.options;
  options.texts.end_ids = files.tokenizer.end_ids;
  options.texts.progress = progress_function("ngram");
  options.texts.cancelled = &interrupted();
  install_interrupt();
  const auto start = std::chrono::steady_clock::now();
  const NgramTable table = build_ngram_table(*model, *tokenizer, workspace, prompts, options);
  options.texts.progress = nullptr;
  table.save(a.out);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const nlohmann::json contexts = {table.contexts(1), table.contexts(2), table.contexts(3)};
  if (a.json) {
    const nlohmann::json result = {
        {"contexts", contexts}, {"bytes", std::filesystem::file_size(a.out)}, {"seconds", seconds}};
    std::cout << result.dump() << std::endl;
  } else {
    std::cout << a.out << ": contexts of 1, 2, 3 tokens " << contexts.dump() << ", "
              << std::filesystem::file_size(a.out) << " bytes" << std::endl;
  }
  return interrupted() ? kExitInterrupted : kExitOk;
}

Action add(CLI::App& app) {
  const auto a = std::make_shared<Arguments>();
  app.footer(
      "Lets a model write replies to prompts and counts what follows what: a table for --ngram-table of generate and "
      "chat.\n"
      "Ctrl-C ends early: the table of what is there is written, exit code 130.\n\n"
      "  espalier ngram MODEL --prompts prompts.txt --tokens 20000 --out smollm2.ngram");
  a->model.add_to(app);
  app.add_option("--prompts", a->prompts,
                 "A file with a user's message on each line, as it stands or as a JSON string; - is stdin")
      ->required();
  app.add_option("--out", a->out, "The table")->required();
  app.add_flag("--plain", a->plain, "Lines are prompts as they stand, without the chat format");
  app.add_option("--chat-format", a->chat_format, "Default: found by the checkpoint's template")
      ->check(CLI::IsMember(chat_format_names()));
  app.add_option("--tokens", a->options.texts.tokens, "Tokens to write in all")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--tokens-per-prompt", a->options.texts.tokens_per_prompt, "At most, each time")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--batch", a->options.texts.batch, "Prompts at a time")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  app.add_option("--temperature", a->options.texts.temperature, "Of the second and later replies to a prompt")
      ->check(number_in(0.0, 100.0))
      ->capture_default_str();
  app.add_option("--seed", a->options.texts.seed, "Same seed, same table")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--max-bytes", a->options.max_bytes, "Of the file")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_flag("--json", a->json, "One JSON object: contexts, bytes, seconds");
  return [a] { return run(*a); };
}

}  // namespace

Verb ngram_verb() {
  return {"ngram", "Make an n-gram table to draft from", add};
}

}  // namespace espalier
