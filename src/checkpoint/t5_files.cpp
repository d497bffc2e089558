// T5 in Hugging Face's form, versions 1.0 and 1.1: tensors are named as they are.
#include <cmath>

#include "checkpoint/family_files.h"
#include "core/error.h"

namespace espalier {

namespace {

ModelConfig read_config(const ConfigJson& json) {
  ModelConfig config;
  const std::string mlp = json.text("feed_forward_proj", "relu");
  config.gated_mlp = mlp.starts_with("gated-");
  const std::string activation = config.gated_mlp ? mlp.substr(6) : mlp;
  // The original's "gelu" of the gated MLP is the tanh form.
  config.activation =
      activation_by_name(mlp == "gated-gelu" ? "gelu_new" : activation, json.where("feed_forward_proj"));
  config.vocab_size = json.size("vocab_size", -1, 1 << 24);
  config.hidden_size = json.size("d_model", -1, 1 << 20);
  config.intermediate_size = json.size("d_ff", -1, 1 << 22);
  config.encoder_layers = json.size("num_layers", -1, 4096);
  config.num_hidden_layers = json.size("num_decoder_layers", config.encoder_layers, 4096);
  config.num_attention_heads = config.num_key_value_heads = json.size("num_heads", -1, 4096);
  config.head_dim = json.size("d_kv", -1, 4096);
  config.attention_scale = 1.0;
  config.relative_bias_buckets = json.size("relative_attention_num_buckets", 32, 1 << 16);
  config.relative_bias_reach = json.size("relative_attention_max_distance", 128, 1 << 14);
  config.max_position_embeddings =
      json.size("n_positions", 512, int64_t{1} << 32);  // of training: distances have no end
  config.norm_eps = json.number("layer_norm_epsilon", 1e-6);
  config.tie_word_embeddings = json.flag("tie_word_embeddings", true);
  // Files of version 1.1 say so by an untied head, newer ones by a flag of its own.
  const bool scaled = json.flag("scale_decoder_outputs", config.tie_word_embeddings);
  config.logit_scale = scaled ? 1.0 / std::sqrt(static_cast<double>(config.hidden_size)) : 1.0;
  config.decoder_start = json.id("decoder_start_token_id", 0, config.vocab_size);
  if (config.num_attention_heads * (2 * config.relative_bias_reach + 1) > (1 << 24)) {
    throw CorruptFile(error_text(json.where("relative_attention_max_distance"), "up to 2^24 biases", "more"));
  }
  if (config.relative_bias_buckets < 4 || config.relative_bias_reach <= config.relative_bias_buckets / 2) {
    throw CorruptFile(error_text(json.where("relative_attention_num_buckets"),
                                 "at least 4, and a max_distance beyond half of them",
                                 std::to_string(config.relative_bias_buckets)));
  }
  return config;
}

}  // namespace

FamilyFiles t5_files() {
  return {read_config};
}

}  // namespace espalier
