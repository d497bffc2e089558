// One entry point to everything a MODEL argument may name: a .gguf file, or a directory in Hugging
// Face's layout (config.json, *.safetensors, tokenizer.json).
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "checkpoint/tensor_source.h"
#include "core/activation.h"
#include "core/tokenizer_data.h"

namespace espalier {

// How the angles of rotary positions are stretched (Hugging Face's rope_scaling).
struct RopeScaling {
  enum class Kind { kNone, kLinear, kLlama3 } kind = Kind::kNone;
  double factor = 1.0;
  // llama3: wavelengths below original / high are kept, those above original / low divided by `factor`, in between
  // both are mixed.
  double low_frequency_factor = 1.0, high_frequency_factor = 4.0;
  double original_positions = 8192.0;
};

// The shape of a model; the field names follow Hugging Face's config.json for LLaMA.
struct ModelConfig {
  std::string family;               // "llama", "gpt2", "bert", "t5", "flash"
  int64_t vocab_size = 0;           // V
  int64_t hidden_size = 0;          // d
  int64_t intermediate_size = 0;    // MLP
  int64_t num_hidden_layers = 0;    // L
  int64_t num_attention_heads = 0;  // H
  int64_t num_key_value_heads = 0;  // Hk
  int64_t head_dim = 0;             // D, of q and k
  int64_t value_dim = 0;            // of v; 0: D, see dim_v()
  int64_t rotary_dim = 0;           // how many of a head's first dimensions are rotated; 0: no rotary positions
  int64_t max_position_embeddings = 0;
  double rope_theta = 10000.0;
  RopeScaling rope_scaling;
  bool bidirectional = false;  // an encoder: all rows see each other
  int64_t token_types = 0, labels = 0;
  // An encoder-decoder's: all other fields are the decoder's.
  int64_t encoder_layers = 0;
  int32_t decoder_start = 0;                  // the token that its texts begin with
  std::string encoder_attention = "softmax";  // SPEC of all its encoder's layers,
  bool encoder_attention_trained = false;     // as attention_trained says of the decoder's
  std::string stack;  // what the names of a stack's own attention parameters begin with: "encoder."
  // T5's bias by distance, instead of positions; 0 buckets: none.
  int64_t relative_bias_buckets = 0, relative_bias_reach = 0;
  double relative_bias_scale = 1.0;
  bool scale_norm = false;         // FLASH's norm by one number
  bool token_shift = false;        // FLASH's shift of half the channels by a token
  double attention_scale = 0;      // of q.k; 0: 1 / sqrt(D)
  double logit_scale = 1.0;        // of the states that logits are taken from
  bool gated_mlp = false;          // where a family has both kinds
  bool learned_positions = false;  // a table of max_position_embeddings rows
  double norm_eps = 1e-5;
  Activation activation = Activation::kSilu;
  bool attention_bias = false, mlp_bias = false;
  bool tie_word_embeddings = false;
  // The attention of each layer as SPEC text ("softmax", "lolcats(group=64)"); size L.
  std::vector<std::string> attention;
  // The checkpoint was trained with `attention`: a mechanism's parameter that it lacks is an error, not an initial
  // value.
  bool attention_trained = false;

  int64_t dim_v() const { return value_dim > 0 ? value_dim : head_dim; }
  // The same untrained attention in every layer.
  void set_attention(const std::string& spec) {
    attention.assign(static_cast<size_t>(num_hidden_layers), spec);
    attention_trained = false;
  }
};

class TensorViews;

struct ModelFiles {
  ModelConfig config;
  std::shared_ptr<const TensorSource> tensors;
  TokenizerData tokenizer;                     // pieces are empty when the model ships none
  std::vector<std::filesystem::path> weights;  // the base's weight files
  // Of a directory: its config.json, and how its tensors became those of `tensors`; null: they are named as they are.
  std::string config_json;
  std::shared_ptr<const TensorViews> views;
  std::shared_ptr<std::string> hash = std::make_shared<std::string>();  // base_hash() of `weights`, once asked for
};

// What an adapter binds to: SHA-256 (hex) over the base's weight files in order. Reads them whole, the first time.
std::string base_hash(const ModelFiles& files);

struct OpenOptions {
  // An adapter directory to lay over the base; empty for none. Throws InvalidArgument when its
  // base hash is another one.
  std::filesystem::path adapter;
};

// Opens and checks everything but reads no weights. Throws InvalidArgument (no such file), CorruptFile,
// NotSupported (architecture, tensor type or pre-tokenizer, named).
ModelFiles open_model(const std::filesystem::path& model, const OpenOptions& options = {});

}  // namespace espalier
