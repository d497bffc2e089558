// What the handles of include/espalier hold.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/model_files.h"
#include "decoding/generate.h"
#include "decoding/state_file.h"
#include "espalier/model.h"
#include "espalier/state.h"
#include "models/model.h"
#include "tokenizers/tokenizer.h"

namespace espalier {

struct LanguageModel::Inside {
  ModelFiles files;
  LoadSettings settings;
  ModelInfo info;
  std::unique_ptr<Tokenizer> tokenizer;  // null: none
  std::unique_ptr<Model> model;

  // Throws NotSupported where there is none.
  const Tokenizer& required_tokenizer() const;
};

struct Session::Inside {
  Inside(LanguageModel own, int threads)
      : model(std::move(own)),
        workspace(threads),
        generator(*model.inside().model, model.inside().tokenizer.get(), workspace) {}

  LanguageModel model;
  Workspace workspace;
  Generator generator;
};

struct State::Inside {
  SavedState saved;
};

}  // namespace espalier
