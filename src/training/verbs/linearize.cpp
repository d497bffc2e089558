#include "training/linearize.h"

#include <cstdio>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "program/interrupt.h"
#include "training/verbs/verbs.h"

namespace espalier {
namespace {

struct Arguments {
  LinearizeOptions options;
  std::string model, recipe, attention, loss;
  int64_t transfer_tokens = -1, distill_tokens = -1, context = -1, batch_tokens = -1, lora_rank = -1, seed = -1;
  int threads = 0;
  bool json = false;
};

Recipe recipe_of(const Arguments& a) {
  Recipe recipe;
  if (!a.recipe.empty()) read_recipe(a.recipe, recipe);
  const auto lay_over = [](auto& target, int64_t value) {
    if (value >= 0) target = static_cast<std::remove_reference_t<decltype(target)>>(value);
  };
  if (!a.attention.empty()) recipe.attention = a.attention;
  if (!a.loss.empty()) recipe.loss = distill_loss_named(a.loss, "--loss");
  lay_over(recipe.transfer.tokens, a.transfer_tokens);
  lay_over(recipe.distill.tokens, a.distill_tokens);
  lay_over(recipe.context, a.context);
  lay_over(recipe.batch_tokens, a.batch_tokens);
  lay_over(recipe.lora_rank, a.lora_rank);
  lay_over(recipe.lora_rank_mlp, a.lora_rank);
  lay_over(recipe.seed, a.seed);
  return recipe;
}

void print(const LinearizeResult& result, const Arguments& a) {
  if (a.json) {
    nlohmann::json json = {{result.measure + "_before", result.before},
                           {result.measure + "_after", result.after},
                           {"teacher_" + result.measure, result.teacher},
                           {"tokens", result.tokens},
                           {"seconds", result.seconds}};
    if (!result.finished) json[result.measure + "_after"] = nullptr;
    std::cout << json.dump() << std::endl;
  } else if (result.finished) {
    std::printf("held-out %s: teacher %.4g, before %.4g, after %.4g (%ld tokens, %.0f s)\nadapter: %s\n",
                result.measure.c_str(), result.teacher, result.before, result.after, static_cast<long>(result.tokens),
                result.seconds, a.options.out.c_str());
  }
  if (!result.finished) std::fprintf(stderr, "stopped after %ld tokens; go on with --resume\n", long(result.tokens));
}

int run(Arguments& a) {
  set_up_training(a.threads);
  install_interrupt();
  a.options.recipe = recipe_of(a);
  a.options.stop = [] { return interrupted().load(); };
  const ModelFiles files = open_model(a.model);
  const auto tokenizer = make_tokenizer(files.tokenizer);
  a.options.model_name = std::filesystem::path(a.model).filename().string();
  const LinearizeResult result = linearize(files, *tokenizer, a.options);
  print(result, a);
  return result.finished ? kExitOk : kExitInterrupted;
}

}  // namespace

Action add_linearize(CLI::App& app, const std::string& command) {
  const auto a = std::make_shared<Arguments>();
  a->options.command = command;
  app.description(
      "Replaces a model's softmax attention by a linear one and trains it: attention transfer, then distillation.\n"
      "Writes an adapter directory for --adapter of the other verbs, metrics.jsonl and a checkpoint for --resume.\n\n"
      "  espalier linearize MODEL --attention lolcats --data text.txt --out runs/mine");
  app.add_option("model", a->model, "A .gguf file or a model directory")->required();
  app.add_option("--attention", a->attention,
                 "SPEC for all layers, e.g. 'augmented(group=64)'; default: the recipe's, lolcats");
  app.add_option("--data", a->options.data, "Text files")->required();
  app.add_option("--held-out", a->options.held_out,
                 "Text files that perplexity (of encoders, the error of hidden states) is measured on; default: rows "
                 "of --data that are kept apart");
  app.add_option("--recipe", a->recipe, "TOML file, see configs/");
  app.add_option("--out", a->options.out, "Run and adapter directory")->required();
  app.add_flag("--resume", a->options.resume, "Go on from the checkpoint in --out");
  app.add_option("--transfer-tokens", a->transfer_tokens, "Tokens of attention transfer")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--distill-tokens", a->distill_tokens, "Tokens of distillation")->check(CLI::NonNegativeNumber);
  app.add_option("--context", a->context, "Tokens of a row")->check(CLI::Range(8, 1 << 20));
  app.add_option("--batch-tokens", a->batch_tokens, "Tokens of a step")->check(CLI::Range(8, 1 << 24));
  app.add_option("--lora-rank", a->lora_rank, "Of the low-rank pairs; 0 trains the mechanism alone")
      ->check(CLI::Range(0, 1024));
  app.add_option("--loss", a->loss,
                 "kl: the teacher's distribution; ce: the text's next token; hidden: the teacher's last hidden states "
                 "(encoders)")
      ->check(CLI::IsMember({"kl", "ce", "hidden"}));
  app.add_option("--seed", a->seed, "Order of the data and first LoRA values")->check(CLI::NonNegativeNumber);
  app.add_option("--threads", a->threads, "Default: all processors")->check(CLI::Range(1, 1024));
  app.add_flag("--json", a->json, "One JSON object on stdout at the end");
  return [a] { return run(*a); };
}

}  // namespace espalier
