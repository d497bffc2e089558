#include "checkpoint/family_files.h"
#include "core/error.h"

namespace espalier {
namespace {

// transformers 5 writes rope_parameters, earlier versions rope_theta beside an optional rope_scaling.
void read_rope(const ConfigJson& json, ModelConfig& config) {
  config.rope_theta = json.number("rope_theta", 10000.0);
  for (const char* key : {"rope_parameters", "rope_scaling"}) {
    if (!json.has(key)) continue;
    const ConfigJson rope = json.object(key);
    config.rope_theta = rope.number("rope_theta", config.rope_theta);
    const std::string type = rope.text("rope_type", rope.text("type", "default"));
    RopeScaling& scaling = config.rope_scaling;
    if (type == "linear" || type == "llama3") {
      scaling.kind = type == "linear" ? RopeScaling::Kind::kLinear : RopeScaling::Kind::kLlama3;
      scaling.factor = rope.number("factor", 1.0);
      scaling.low_frequency_factor = rope.number("low_freq_factor", 1.0);
      scaling.high_frequency_factor = rope.number("high_freq_factor", 4.0);
      scaling.original_positions = rope.number("original_max_position_embeddings", 8192.0);
      if (!(scaling.factor >= 1.0) || !(scaling.high_frequency_factor > scaling.low_frequency_factor) ||
          !(scaling.low_frequency_factor > 0.0) || !(scaling.original_positions >= 1.0)) {
        throw CorruptFile(error_text(rope.where("factor"), "factor >= 1, 0 < low_freq_factor < high_freq_factor",
                                     std::to_string(scaling.factor)));
      }
    } else {
      // dynamic (NTK) stretches angles by the length of the whole text, so that a row would depend on later ones.
      rope.require(type == "default", "rope_type", "default, linear or llama3", type);
    }
  }
  if (!(config.rope_theta > 0.0)) {
    throw CorruptFile(error_text(json.where("rope_theta"), "> 0", std::to_string(config.rope_theta)));
  }
}

ModelConfig read_config(const ConfigJson& json) {
  ModelConfig config;
  json.require(!json.has("sliding_window"), "sliding_window", "none (use --attention 'window(group=N)')",
               "a window of the model's own");
  config.attention_bias = json.flag("attention_bias", false);
  config.mlp_bias = json.flag("mlp_bias", false);
  config.activation = json.activation("hidden_act", "silu");
  config.vocab_size = json.size("vocab_size", -1, 1 << 24);
  config.hidden_size = json.size("hidden_size", -1, 1 << 20);
  config.intermediate_size = json.size("intermediate_size", -1, 1 << 22);
  config.num_hidden_layers = json.size("num_hidden_layers", -1, 4096);
  config.num_attention_heads = json.size("num_attention_heads", -1, 4096);
  config.num_key_value_heads = json.size("num_key_value_heads", config.num_attention_heads, 4096);
  config.head_dim = json.size("head_dim", config.hidden_size / config.num_attention_heads, 4096);
  config.rotary_dim = config.head_dim;
  config.max_position_embeddings = json.size("max_position_embeddings", 2048, int64_t{1} << 32);
  read_rope(json, config);
  config.norm_eps = json.number("rms_norm_eps", 1e-6);
  config.tie_word_embeddings = json.flag("tie_word_embeddings", false);
  if (config.num_attention_heads % config.num_key_value_heads != 0 || config.head_dim % 2 != 0) {
    throw CorruptFile(error_text(json.where("num_attention_heads"),
                                 "a multiple of num_key_value_heads, and an even head",
                                 std::to_string(config.num_attention_heads)));
  }
  return config;
}

}  // namespace

FamilyFiles llama_files() {
  return {read_config};
}

}  // namespace espalier
