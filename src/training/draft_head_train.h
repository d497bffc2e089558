// Trains a draft head (decoding/drafters/draft_head.h) on texts that the model writes itself.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "decoding/self_text.h"
#include "models/model.h"

namespace espalier {

struct DraftHeadOptions {
  std::string model_name;  // recorded in the head
  std::string made_with;   // what else decides the texts: weights, adapter
  std::filesystem::path out;
  std::vector<std::vector<int32_t>> prompts;
  SelfTextOptions texts{.tokens = 100000, .batch = 16};
  int64_t vocabulary = 4096;  // tokens that the head can guess: those that the model writes most
  int64_t width = 0;          // of the cell; 0: twice the model's hidden size
  int64_t depth = 4;          // tokens ahead that the loss looks
  double epochs = 6;
  int64_t batch = 512;  // positions of a step
  double rate = 1e-3;
  int64_t checkpoint_seconds = 60;
  bool resume = false;
  std::string command;  // recorded in the head
  // Asked after every batch of texts and every step; true ends the run with its checkpoint. May be empty.
  std::function<bool()> stop;
};

struct DraftHeadResult {
  bool finished = true;  // false: stopped; no head was written
  int64_t tokens = 0;    // that the model wrote
  double coverage = 0;   // share of them that the head can guess
  // On texts kept apart: share of the tokens 1, 2, … behind the root that are the head's first guess on the true path.
  std::vector<double> agreement;
  double seconds = 0;
};

// Writes OUT/texts.jsonl as the model writes, OUT/metrics.jsonl, OUT/checkpoint.safetensors while training, and the
// head into OUT at the end. With `resume` it goes on from what is there. Loss, at each depth n of the unrolled cell:
// KL(model || head) over the head's tokens, weighted by 0.8^n, and a tenth of the relative squared error of its states
// to the model's. Throws InvalidArgument when OUT holds another run, for options without meaning, or too few texts;
// NotSupported for a model that is no decoder; CorruptFile for a damaged texts.jsonl.
DraftHeadResult train_draft_head(const ModelFiles& files, const Model& model, Workspace& workspace,
                                 const DraftHeadOptions& options);

}  // namespace espalier
