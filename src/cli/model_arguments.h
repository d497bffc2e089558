// What every verb that runs a model takes, and how its files are opened and loaded.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "core/log.h"
#include "models/model.h"
#include "program/verb.h"
#include "tokenizers/tokenizer.h"

namespace espalier {

struct ModelArguments {
  std::string model, adapter, attention, encoder_attention, weights = "bf16";
  std::string isa;  // empty: the fastest
  int threads = 0;  // 0: as many as there are processors
  bool verbose = false;
  // Whether the verb can do something with a model whose rows all see each other, and with one that reads a source.
  bool encoders = false, encoder_decoders = false;
  // Whether it runs the model: with weights of a type, on threads.
  bool runs = true;

  void add_to(CLI::App& app);
  Log log() const;
  // Checks the files; `attention` is laid over the checkpoint's.
  ModelFiles open() const;
  // Prints the memory plan, then loads. `tokens` is how long a sequence may get; 0 if unknown.
  std::unique_ptr<Model> load(const ModelFiles& files, int64_t tokens = 0) const;
  int thread_count() const;
};

// A file's text, or standard input's for "-".
std::string read_input(const std::string& path);
// Null when the model ships no tokenizer; the second refuses then.
std::unique_ptr<Tokenizer> tokenizer_of(const ModelFiles& files);
std::unique_ptr<Tokenizer> required_tokenizer(const ModelFiles& files);
// The ids of a JSON array. Throws InvalidArgument for anything but integers in [0, vocab_size).
std::vector<int32_t> token_ids(const nlohmann::json& array, int64_t vocab_size, const std::string& where);

}  // namespace espalier
