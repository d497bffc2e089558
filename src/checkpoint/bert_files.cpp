// BERT in Hugging Face's form. Files of the bare model lack the prefix "bert."; old ones call the norms' weights gamma
// and beta.
#include "checkpoint/family_files.h"
#include "checkpoint/tensor_views.h"
#include "core/error.h"

namespace espalier {

namespace {

ModelConfig read_config(const ConfigJson& json) {
  ModelConfig config;
  const std::string positions = json.text("position_embedding_type", "absolute");
  json.require(positions == "absolute", "position_embedding_type", "absolute", positions);
  json.require_flag("is_decoder", false);
  json.require_flag("add_cross_attention", false);
  config.bidirectional = config.learned_positions = config.attention_bias = config.mlp_bias = true;
  config.activation = json.activation("hidden_act", "gelu");
  config.vocab_size = json.size("vocab_size", -1, 1 << 24);
  config.hidden_size = json.size("hidden_size", -1, 1 << 20);
  config.intermediate_size = json.size("intermediate_size", -1, 1 << 22);
  config.num_hidden_layers = json.size("num_hidden_layers", -1, 4096);
  config.num_attention_heads = config.num_key_value_heads = json.size("num_attention_heads", -1, 4096);
  config.head_dim = config.hidden_size / config.num_attention_heads;
  config.max_position_embeddings = json.size("max_position_embeddings", 512, 1 << 24);
  config.token_types = json.size("type_vocab_size", 2, 1 << 16);
  // A classifier of single tokens or of choices is not one of texts.
  const bool other_labels = json.is_architecture("ForTokenClassification") ||
                            json.is_architecture("ForMultipleChoice") || json.is_architecture("ForQuestionAnswering");
  config.labels = other_labels ? 0 : json.labels();
  config.norm_eps = json.number("layer_norm_eps", 1e-12);
  config.tie_word_embeddings = json.flag("tie_word_embeddings", true);
  if (config.head_dim * config.num_attention_heads != config.hidden_size) {
    throw CorruptFile(error_text(json.where("num_attention_heads"),
                                 "a divisor of hidden_size, " + std::to_string(config.hidden_size),
                                 std::to_string(config.num_attention_heads)));
  }
  return config;
}

std::shared_ptr<const TensorSource> view_tensors(std::shared_ptr<const TensorSource> tensors, const ModelConfig&) {
  std::map<std::string, TensorView> views;
  for (const std::string& stored : tensors->names()) {
    std::string name = stored;
    for (const char* part : {"embeddings.", "encoder.", "pooler."}) {
      if (name.starts_with(part)) name = "bert." + name;
    }
    if (name.ends_with(".gamma")) name.replace(name.size() - 5, 5, "weight");
    if (name.ends_with(".beta")) name.replace(name.size() - 4, 4, "bias");
    if (name != stored) views[name] = {.stored = stored};
  }
  return std::make_shared<TensorViews>(std::move(tensors), views);
}

}  // namespace

FamilyFiles bert_files() {
  return {read_config, view_tensors};
}

}  // namespace espalier
