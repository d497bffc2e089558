#include "checkpoint/hf_writer.h"

#include <stdlib.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "checkpoint/family_files.h"
#include "checkpoint/tensor_views.h"
#include "core/error.h"
#include "core/file.h"

namespace espalier {
namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;

// Of a LLaMA that did not come with one.
Json llama_config(const ModelFiles& files) {
  const ModelConfig& config = files.config;
  const TokenizerData& tokenizer = files.tokenizer;
  Json json = {{"architectures", {"LlamaForCausalLM"}},
               {"model_type", "llama"},
               {"vocab_size", config.vocab_size},
               {"hidden_size", config.hidden_size},
               {"intermediate_size", config.intermediate_size},
               {"num_hidden_layers", config.num_hidden_layers},
               {"num_attention_heads", config.num_attention_heads},
               {"num_key_value_heads", config.num_key_value_heads},
               {"head_dim", config.head_dim},
               {"max_position_embeddings", config.max_position_embeddings},
               {"rope_theta", config.rope_theta},
               {"rms_norm_eps", config.norm_eps},
               {"hidden_act", "silu"},
               {"attention_bias", false},
               {"mlp_bias", false},
               {"tie_word_embeddings", config.tie_word_embeddings}};
  if (config.rope_scaling.kind == RopeScaling::Kind::kLinear) {
    json["rope_scaling"] = {{"rope_type", "linear"}, {"factor", config.rope_scaling.factor}};
  }
  if (tokenizer.bos_id >= 0) json["bos_token_id"] = tokenizer.bos_id;
  if (tokenizer.eos_id >= 0) json["eos_token_id"] = tokenizer.eos_id;
  if (tokenizer.pad_id >= 0) json["pad_token_id"] = tokenizer.pad_id;
  return json;
}

Json config_json(const ModelFiles& files, StoredType type) {
  Json json = files.config_json.empty() ? llama_config(files) : Json::parse(files.config_json);
  json.erase("torch_dtype");
  json["dtype"] = type == StoredType::kBf16 ? "bfloat16" : "float32";
  json.erase("espalier");
  const ModelConfig plain = read_model_config(json);
  Json own = Json::object();
  if (files.config.attention != plain.attention) own["attention"] = files.config.attention;
  if (files.config.encoder_attention != plain.encoder_attention) {
    own["encoder_attention"] = files.config.encoder_attention;
  }
  if (!own.empty()) json["espalier"] = own;
  return json;
}

Json byte_level_json(bool words) {
  return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", words}};
}

Json pre_tokenizer_json(const std::string& name) {
  if (name == "gpt2") return byte_level_json(true);
  if (name == "smollm") {
    return {{"type", "Sequence"},
            {"pretokenizers", {{{"type", "Digits"}, {"individual_digits", true}}, byte_level_json(true)}}};
  }
  return {{"type", "Sequence"},
          {"pretokenizers",
           {{{"type", "Split"}, {"pattern", {{"Regex", kLlama3Words}}}, {"behavior", "Isolated"}, {"invert", false}},
            byte_level_json(false)}}};
}

// Of a byte-level BPE that came in another form.
Json tokenizer_json(const TokenizerData& data) {
  Json vocab = Json::object(), merges = Json::array(), added = Json::array();
  for (size_t id = 0; id < data.pieces.size(); ++id) {
    if (!data.pieces[id].empty()) vocab[data.pieces[id]] = id;
  }
  for (const auto& [left, right] : data.merges) merges.push_back({left, right});
  const std::set<int32_t> control(data.control_ids.begin(), data.control_ids.end());
  for (const int32_t id : data.special_ids) {
    added.push_back({{"id", id},
                     {"content", data.pieces[static_cast<size_t>(id)]},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", control.contains(id)}});
  }
  Json json = {{"version", "1.0"},
               {"truncation", nullptr},
               {"padding", nullptr},
               {"added_tokens", added},
               {"normalizer", nullptr},
               {"pre_tokenizer", pre_tokenizer_json(data.pre_tokenizer)},
               {"post_processor", nullptr},
               {"decoder", byte_level_json(true)},
               {"model",
                {{"type", "BPE"},
                 {"dropout", nullptr},
                 {"unk_token", nullptr},
                 {"continuing_subword_prefix", nullptr},
                 {"end_of_word_suffix", nullptr},
                 {"fuse_unk", false},
                 {"byte_fallback", false},
                 {"ignore_merges", data.whole_words},
                 {"vocab", vocab},
                 {"merges", merges}}}};
  if (!data.prefix_ids.empty() || !data.suffix_ids.empty()) {
    Json single = Json::array(), pair = Json::array(), tokens = Json::object();
    const auto add = [&](int32_t id) {
      const std::string& piece = data.pieces[static_cast<size_t>(id)];
      single.push_back({{"SpecialToken", {{"id", piece}, {"type_id", 0}}}});
      pair.push_back(single.back());
      tokens[piece] = {{"id", piece}, {"ids", {id}}, {"tokens", {piece}}};
    };
    for (const int32_t id : data.prefix_ids) add(id);
    single.push_back({{"Sequence", {{"id", "A"}, {"type_id", 0}}}});
    pair.push_back(single.back());
    pair.push_back({{"Sequence", {{"id", "B"}, {"type_id", 1}}}});
    for (const int32_t id : data.suffix_ids) add(id);
    json["post_processor"] = {
        {"type", "TemplateProcessing"}, {"single", single}, {"pair", pair}, {"special_tokens", tokens}};
  }
  return json;
}

void write_json(const fs::path& path, const Json& json) {
  write_file(path, json.dump(2) + "\n");
}

// Copies the files of a directory, or writes what another form says.
void write_tokenizer(const ModelFiles& files, const fs::path& from, const fs::path& to) {
  if (fs::is_directory(from)) {
    for (const char* name : {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
                             "vocab.json", "vocab.txt", "merges.txt", "spiece.model", "tokenizer.model",
                             "generation_config.json", "chat_template.jinja"}) {
      if (fs::is_regular_file(from / name)) write_file(to / name, read_text_file(from / name));
    }
    return;
  }
  const TokenizerData& data = files.tokenizer;
  if (data.pieces.empty()) return;
  Json config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                 {"model_max_length", files.config.max_position_embeddings},
                 {"clean_up_tokenization_spaces", false}};
  const auto name = [&](const char* key, int32_t id) {
    if (id >= 0) config[key] = data.pieces[static_cast<size_t>(id)];
  };
  name("bos_token", data.bos_id);
  name("eos_token", data.eos_id);
  name("unk_token", data.unk_id);
  name("pad_token", data.pad_id);
  if (!data.chat_template.empty()) config["chat_template"] = data.chat_template;
  write_json(to / "tokenizer_config.json", config);
  write_json(to / "tokenizer.json", tokenizer_json(data));
  Json generation = Json::object();
  if (data.bos_id >= 0) generation["bos_token_id"] = data.bos_id;
  if (!data.end_ids.empty()) generation["eos_token_id"] = data.end_ids;
  write_json(to / "generation_config.json", generation);
}

// The model's tensors as its files name them, and its attention's.
std::vector<TensorToWrite> all_tensors(const ModelFiles& files, const HfDirectory& content) {
  // A parameter that the family's files have a place for goes there.
  std::set<std::string> attention;
  std::vector<TensorToWrite> result;
  for (const TensorToWrite& tensor : content.attention) {
    if (files.views && files.views->view(tensor.name) && files.views->find(tensor.name)->shape == tensor.shape)
      continue;
    attention.insert(tensor.name);
    result.push_back(tensor);
  }
  const TensorSource& tensors = *files.tensors;
  std::set<std::string> stored;
  for (const std::string& name : tensors.names()) {
    if (attention.contains(name)) continue;
    const TensorView* view = files.views ? files.views->view(name) : nullptr;
    if (!view) {
      result.push_back({.name = name,
                        .shape = tensors.find(name)->shape,
                        .type = content.type,
                        .read = [&tensors, name](float* out) { tensors.read(name, out); }});
    } else if (stored.insert(view->stored).second) {
      const std::string own = view->stored;
      result.push_back({.name = own,
                        .shape = files.views->stored_shape(own),
                        .type = content.type,
                        .read = [&files, own](float* out) { files.views->read_stored(own, *files.tensors, out); }});
    }
  }
  return result;
}

}  // namespace

void write_hf_directory(const ModelFiles& files, const HfDirectory& content, const fs::path& directory) {
  std::error_code ignored;
  if (fs::exists(directory, ignored) && !(fs::is_directory(directory, ignored) && fs::is_empty(directory, ignored))) {
    throw InvalidArgument(error_text(directory.string(), "a new directory", "one with files in it", "another --out"));
  }
  fs::path target = directory.lexically_normal();
  if (!target.has_filename()) target = target.parent_path();
  std::string made = target.string() + ".XXXXXX";
  if (target.has_parent_path()) fs::create_directories(target.parent_path(), ignored);
  if (!::mkdtemp(made.data())) {
    throw InvalidArgument(error_text(directory.string(), "a folder that can be written", std::strerror(errno)));
  }
  const fs::path partial = made;
  try {
    std::vector<TensorToWrite> tensors = all_tensors(files, content);
    const auto total = static_cast<int64_t>(tensors.size());
    for (int64_t done = 0; content.progress && done < total; ++done) {
      TensorToWrite& tensor = tensors[static_cast<size_t>(done)];
      if (!tensor.read) continue;
      tensor.read = [&content, done, total, read = tensor.read](float* out) {
        content.progress(done + 1, total);
        read(out);
      };
    }
    write_safetensors(partial / "model.safetensors", tensors, {{"format", "pt"}});
    write_tokenizer(files, files.weights[0].extension() == ".gguf" ? files.weights[0] : files.weights[0].parent_path(),
                    partial);
    write_json(partial / "config.json", config_json(files, content.type));
    fs::permissions(partial, fs::perms(0755), ignored);
    fs::remove(target, ignored);
    std::error_code failed;
    fs::rename(partial, target, failed);
    if (failed) throw InvalidArgument(error_text(directory.string(), "a folder that can be written", failed.message()));
  } catch (const Json::exception& error) {
    fs::remove_all(partial, ignored);
    throw CorruptFile(error_text(files.tensors->where(), "texts in UTF-8", error.what()));
  } catch (...) {
    fs::remove_all(partial, ignored);
    throw;
  }
}

}  // namespace espalier
