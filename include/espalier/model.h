// A pretrained language model, loaded.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "espalier/error.h"
#include "espalier/export.h"

namespace espalier {

struct LoadSettings {
  // How weights are held: "f32", "bf16", "int8", "int4", "int4-sym", or "own": quantized tensors of a GGUF file as they
  // are.
  std::string weights = "bf16";
  // A directory that `espalier linearize` wrote; empty: none.
  std::string adapter = {};
  // A SPEC for all layers, as `espalier inspect --attentions` lists them, e.g. "window(group=64)"; empty: the model's
  // own.
  std::string attention = {};
  // Instruction set: "scalar", "avx2", "avx512", "avx512-bf16", "amx"; empty: the fastest of this processor.
  std::string isa = {};
};

struct ModelInfo {
  std::string family;                  // "llama", "gpt2", "bert", "t5", "flash"
  std::vector<std::string> attention;  // SPEC per layer
  int64_t parameters = 0;
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;    // numbers of an embedding
  int64_t max_positions = 0;  // tokens that a text may have; the greatest number where there is no limit
  int64_t weight_bytes = 0;
  bool constant_state = false;  // a text's state does not grow with it
};

// A handle: copies share the weights, which are read only. Thread-safe.
class ESPALIER_API LanguageModel {
 public:
  // Reads a .gguf file or a directory with config.json, *.safetensors and a tokenizer. Takes the time of reading the
  // file, and memory for the packed weights. Throws CorruptFile, NotSupported or InvalidArgument, each naming the file
  // and what to try.
  static LanguageModel load(const std::string& path, const LoadSettings& settings = {});

  const ModelInfo& info() const;
  // With what the checkpoint puts around a text (<s>; [CLS] … [SEP]). Throws InvalidArgument for invalid UTF-8,
  // NotSupported for a model without a tokenizer, as the next does.
  std::vector<int32_t> tokenize(std::string_view text) const;
  // Without special tokens. Throws InvalidArgument for an id outside the vocabulary.
  std::string detokenize(const std::vector<int32_t>& tokens) const;

  struct Inside;  // the library's
  const Inside& inside() const { return *inside_; }

 private:
  explicit LanguageModel(std::shared_ptr<const Inside> inside);
  std::shared_ptr<const Inside> inside_;
};

// Threads and memory that calls on one model reuse. One call at a time; more sessions may share a model.
class ESPALIER_API Session {
 public:
  // `threads` 0: as many as there are processors.
  explicit Session(LanguageModel model, int threads = 0);
  ~Session();
  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;

  const LanguageModel& model() const;

  struct Inside;
  Inside& inside() { return *inside_; }

 private:
  std::unique_ptr<Inside> inside_;
};

}  // namespace espalier
