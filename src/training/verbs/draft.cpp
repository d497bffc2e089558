#include <cstdio>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "checkpoint/adapter.h"
#include "core/error.h"
#include "core/file.h"
#include "core/hash.h"
#include "program/interrupt.h"
#include "training/draft_head_train.h"
#include "training/recipe.h"
#include "training/verbs/verbs.h"

namespace espalier {
namespace {

struct Arguments {
  DraftHeadOptions options;
  std::string model, adapter, prompts, chat_format, weights = "bf16";
  bool plain = false, json = false;
  int threads = 0;
};

void print(const DraftHeadResult& result, const Arguments& a) {
  if (a.json) {
    const nlohmann::json json = {{"tokens", result.tokens},
                                 {"coverage", result.coverage},
                                 {"agreement", result.agreement},
                                 {"seconds", result.seconds}};
    std::cout << json.dump() << std::endl;
    return;
  }
  if (!result.finished) return;
  std::printf(
      "%ld tokens written, %.1f %% of them in the head's vocabulary; on texts kept apart its first guess is right",
      static_cast<long>(result.tokens), 100 * result.coverage);
  for (size_t i = 0; i < result.agreement.size(); ++i) {
    std::printf("%s %.1f %% %zu ahead", i == 0 ? "" : ",", 100 * result.agreement[i], i + 1);
  }
  std::printf("\nhead: %s\n", a.options.out.c_str());
}

int run(Arguments& a) {
  set_up_training(a.threads);
  install_interrupt();
  a.options.stop = [] { return interrupted().load(); };
  const ModelFiles files = open_model(a.model, {.adapter = a.adapter});
  if (files.config.bidirectional || files.config.encoder_layers > 0) {
    throw NotSupported(error_text("draft", "a decoder", files.config.family));
  }
  const auto tokenizer = make_tokenizer(files.tokenizer);
  const std::string lines = read_text_file(a.prompts);
  ChatFormat format;
  if (!a.plain) format = chat_format_for(a.chat_format, files.tokenizer.chat_template);
  a.options.prompts = read_prompts(lines, *tokenizer, a.plain ? nullptr : &format);
  a.options.texts.end_ids = files.tokenizer.end_ids;
  a.options.model_name = std::filesystem::path(a.model).filename().string();
  a.options.made_with = a.weights;
  if (!a.adapter.empty()) {
    a.options.made_with += " " + sha256(MappedFile(std::filesystem::path(a.adapter) / "adapter.safetensors").bytes());
    a.options.made_with += " " + digits(read_adapter_info(a.adapter).lora_scale);
  }
  const auto model = load_model(files, {.weights = weight_type_by_name(a.weights)});
  Workspace workspace(training_threads(a.threads));
  const DraftHeadResult result = train_draft_head(files, *model, workspace, a.options);
  print(result, a);
  if (!result.finished) std::fprintf(stderr, "stopped; go on with --resume\n");
  return result.finished ? kExitOk : kExitInterrupted;
}

}  // namespace

Action add_draft(CLI::App& app, const std::string& command) {
  const auto a = std::make_shared<Arguments>();
  DraftHeadOptions& options = a->options;
  options.command = command;
  app.description(
      "Trains a draft head: the model writes texts from prompts, and the head learns to guess what it writes next.\n"
      "Writes a directory for --draft-head of generate, chat and bench, metrics.jsonl, and what --resume needs. Ctrl-C "
      "ends after the batch of texts or the step that is being made.\n\n"
      "  espalier draft MODEL --prompts prompts.txt --tokens 100000 --out runs/head");
  app.add_option("model", a->model, "A .gguf file or a model directory")->required();
  app.add_option("--prompts", a->prompts, "A file with a user's message on each line, as it stands or as a JSON string")
      ->required();
  app.add_option("--out", options.out, "Run and head directory")->required();
  app.add_flag("--resume", options.resume, "Go on from what is in --out");
  app.add_option("--adapter", a->adapter, "Adapter directory that linearizes this model");
  app.add_option("--weights", a->weights, "What the model writes with")->capture_default_str();
  app.add_flag("--plain", a->plain, "Lines are prompts as they stand, without the chat format");
  app.add_option("--chat-format", a->chat_format, "Default: found by the checkpoint's template")
      ->check(CLI::IsMember(chat_format_names()));
  app.add_option("--tokens", options.texts.tokens, "Tokens to write in all")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--tokens-per-prompt", options.texts.tokens_per_prompt, "At most, each time")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--text-batch", options.texts.batch, "Prompts at a time")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  app.add_option("--temperature", options.texts.temperature, "Of the second and later replies to a prompt")
      ->check(CLI::Range(0.0, 100.0))
      ->capture_default_str();
  app.add_option("--vocabulary", options.vocabulary, "Tokens that the head can guess: those the model writes most")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--width", options.width, "Of the cell; default: twice the model's hidden size")
      ->check(CLI::Range(1, 1 << 16));
  app.add_option("--depth", options.depth, "Tokens ahead that the loss looks")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  app.add_option("--epochs", options.epochs, "Over all positions")->check(CLI::Range(0.0, 1e6))->capture_default_str();
  app.add_option("--batch", options.batch, "Positions of a step")->check(CLI::Range(1, 1 << 20))->capture_default_str();
  app.add_option("--rate", options.rate, "Adam's")->check(CLI::Range(0.0, 10.0))->capture_default_str();
  app.add_option("--seed", options.texts.seed, "Same seed, same head")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--threads", a->threads, "Default: all processors")->check(CLI::Range(1, 1024));
  app.add_flag("--json", a->json, "One JSON object: tokens, coverage, agreement, seconds");
  return [a] { return run(*a); };
}

}  // namespace espalier
