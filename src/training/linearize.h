// Linearization: attention transfer, then distillation, with checkpoints that survive a kill.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "training/recipe.h"
#include "training/text_rows.h"

namespace espalier {

struct LinearizeOptions {
  std::string model_name;  // recorded in the adapter
  std::filesystem::path out;
  std::vector<std::filesystem::path> data;
  std::vector<std::filesystem::path> held_out;  // measured on; empty: rows of `data` that are kept apart
  Recipe recipe;
  bool resume = false;
  std::string command;         // recorded in the adapter
  std::function<bool()> stop;  // asked after every step; true ends the run with its checkpoint. May be empty
};

struct LinearizeResult {
  bool finished = true;  // false: stopped; no adapter was written
  std::string measure;   // of held-out text: "perplexity", of encoders "hidden_error" (held_out_error())
  double teacher = 0, before = 0, after = 0;
  int64_t tokens = 0;
  double seconds = 0;
};

// Writes OUT/metrics.jsonl (a line per step), OUT/checkpoint.safetensors while running, and the adapter into OUT at the
// end. With `resume` it goes on from the checkpoint, to the same losses as if it had not been interrupted. Throws
// InvalidArgument when OUT holds another run, or when the recipe does not fit the model.
LinearizeResult linearize(const ModelFiles& files, const Tokenizer& tokenizer, const LinearizeOptions& options);

}  // namespace espalier
