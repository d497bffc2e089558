// What a linearization does, as a TOML file and the command line say it (docs/recipes/linearize.md).
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/model_files.h"
#include "training/losses.h"
#include "training/optimizer.h"

namespace espalier {

struct Stage {
  int64_t tokens = 0;
  LearningRates rates;
  int64_t warmup_steps = 10;
  bool cosine = false;  // decay to a tenth of the rates over the stage
  double clip = 0.0;    // of the gradients' common length; 0: none
};

struct Recipe {
  std::string attention = "lolcats";
  int64_t context = 1024;       // tokens of a row
  int64_t batch_tokens = 1024;  // of a step
  Trained trained = Trained::kLora;
  int64_t lora_rank = 8;      // of q, k, v, o
  int64_t lora_rank_mlp = 8;  // of gate, up, down
  double lora_scale = 2.0;
  Stage transfer{.tokens = 33000, .rates = {1e-2, 1e-3}};
  Stage distill{.tokens = 97000, .rates = {3e-3, 5e-4}, .cosine = true, .clip = 1.0};
  std::optional<DistillLoss> loss;  // unset: kKl, of encoders kHidden
  int64_t held_out_rows = 4;        // rows of `context` that are never trained on
  int64_t evaluate_tokens = 0;  // held-out perplexity goes into metrics.jsonl every so many tokens; 0: at the ends only
  int64_t checkpoint_seconds = 60;
  uint64_t seed = 1;
};

// A number as text: six digits, or as many as tell it from all others.
std::string digits(double value);

// Lays the keys of the file over `recipe`. Throws InvalidArgument naming an unknown key or a wrong kind.
void read_recipe(const std::filesystem::path& path, Recipe& recipe);
// The loss that the word names: kl, ce, hidden. Throws InvalidArgument for another.
DistillLoss distill_loss_named(const std::string& word, const std::string& where);
// Throws InvalidArgument for values that have no meaning, or a context beyond the model's positions.
void check_recipe(const Recipe& recipe, const ModelConfig& config);
// Everything that decides the result, as one line: what --resume compares.
std::string recipe_text(const Recipe& recipe);

}  // namespace espalier
