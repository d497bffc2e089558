// GPT-2 in Hugging Face's form: config.json, and linear layers stored as [in, out] with q, k and v side by side.
#include "checkpoint/family_files.h"
#include "checkpoint/tensor_views.h"
#include "core/error.h"

namespace espalier {

namespace {

ModelConfig read_config(const ConfigJson& json) {
  ModelConfig config;
  json.require_flag("scale_attn_weights", true);
  json.require_flag("scale_attn_by_inverse_layer_idx", false);
  json.require_flag("add_cross_attention", false);
  config.learned_positions = true;
  config.attention_bias = config.mlp_bias = true;
  config.activation = json.activation("activation_function", "gelu_new");
  config.vocab_size = json.size("vocab_size", -1, 1 << 24);
  config.hidden_size = json.size("n_embd", -1, 1 << 20);
  config.intermediate_size = json.size("n_inner", 4 * config.hidden_size, 1 << 22);
  config.num_hidden_layers = json.size("n_layer", -1, 4096);
  config.num_attention_heads = config.num_key_value_heads = json.size("n_head", -1, 4096);
  config.head_dim = config.hidden_size / config.num_attention_heads;
  config.max_position_embeddings = json.size("n_positions", 1024, 1 << 24);
  config.norm_eps = json.number("layer_norm_epsilon", 1e-5);
  config.tie_word_embeddings = json.flag("tie_word_embeddings", true);
  if (config.head_dim * config.num_attention_heads != config.hidden_size) {
    throw CorruptFile(error_text(json.where("n_head"), "a divisor of n_embd, " + std::to_string(config.hidden_size),
                                 std::to_string(config.num_attention_heads)));
  }
  return config;
}

std::shared_ptr<const TensorSource> view_tensors(std::shared_ptr<const TensorSource> tensors,
                                                 const ModelConfig& config) {
  // Files that were written from the model without its head lack the prefix.
  const std::string stored = tensors->find("transformer.wte.weight") ? "transformer." : "";
  std::map<std::string, TensorView> views;
  for (const char* name : {"wte.weight", "wpe.weight", "ln_f.weight", "ln_f.bias"}) {
    views[std::string("transformer.") + name] = {.stored = stored + name};
  }
  for (int64_t l = 0; l < config.num_hidden_layers; ++l) {
    const std::string layer = "h." + std::to_string(l) + ".";
    const auto add = [&](const std::string& own, const std::string& name, bool linear, int64_t part, int64_t parts) {
      for (const char* kind : {".weight", ".bias"}) {
        views["transformer." + layer + own + kind] = {.stored = stored + layer + name + kind,
                                                      .transposed = linear && std::string(kind) == ".weight",
                                                      .part = part,
                                                      .parts = parts};
      }
    };
    add("ln_1", "ln_1", false, 0, 1);
    add("ln_2", "ln_2", false, 0, 1);
    add("attn.q_proj", "attn.c_attn", true, 0, 3);
    add("attn.k_proj", "attn.c_attn", true, 1, 3);
    add("attn.v_proj", "attn.c_attn", true, 2, 3);
    add("attn.o_proj", "attn.c_proj", true, 0, 1);
    add("mlp.up_proj", "mlp.c_fc", true, 0, 1);
    add("mlp.down_proj", "mlp.c_proj", true, 0, 1);
  }
  return std::make_shared<TensorViews>(std::move(tensors), views);
}

}  // namespace

FamilyFiles gpt2_files() {
  return {read_config, view_tensors};
}

}  // namespace espalier
