#include "checkpoint/hf_directory.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "checkpoint/family_files.h"
#include "checkpoint/safetensors.h"
#include "core/error.h"
#include "core/file.h"

namespace espalier {
namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;

constexpr size_t kMaxJson = size_t{256} << 20;

Json read_json(const fs::path& path) {
  const std::string text = read_text_file(path, kMaxJson);
  Json json = Json::parse(text, nullptr, false);
  if (!json.is_object()) throw CorruptFile(error_text(path.filename().string(), "a JSON object", "something else"));
  return json;
}

template <class T>
T field(const Json& json, const char* key, T fallback) {
  const auto it = json.find(key);
  if (it == json.end() || it->is_null()) return fallback;
  try {
    return it->get<T>();
  } catch (const Json::exception&) {
    throw CorruptFile(
        error_text(std::string("config.json: ") + key, "another kind of value", it->dump().substr(0, 60)));
  }
}

std::vector<fs::path> weight_files(const fs::path& directory) {
  if (fs::exists(directory / "model.safetensors")) return {directory / "model.safetensors"};
  const fs::path index = directory / "model.safetensors.index.json";
  if (!fs::exists(index)) {
    throw InvalidArgument(error_text(directory.string(), "model.safetensors", "none"));
  }
  const Json json = read_json(index);
  std::set<std::string> names;
  if (!json.contains("weight_map") || !json["weight_map"].is_object()) {
    throw CorruptFile(error_text("model.safetensors.index.json", "weight_map", "none"));
  }
  for (const auto& [tensor, file] : json["weight_map"].items()) {
    const std::string name = file.is_string() ? file.get<std::string>() : "";
    // A shard lies beside its index: a path would let a hostile index read elsewhere.
    if (name.empty() || fs::path(name).filename() != name) {
      throw CorruptFile(error_text("model.safetensors.index.json: " + tensor, "a file name", "'" + name + "'"));
    }
    names.insert(name);
  }
  std::vector<fs::path> files;
  for (const std::string& name : names) files.push_back(directory / name);
  return files;
}

// The pre-tokenizer by the shape of its JSON; the regular expressions in the file are compared, never run.
std::string pre_tokenizer_of(const Json& json) {
  const Json pre = json.value("pre_tokenizer", Json());
  const std::string text = pre.dump();
  const auto kind = [](const Json& part) { return part.is_object() ? part.value("type", "") : std::string(); };
  if (kind(pre) == "ByteLevel" && pre.value("use_regex", true)) return "gpt2";
  if (kind(pre) == "Sequence" && pre.contains("pretokenizers") && pre["pretokenizers"].size() == 2) {
    const Json &first = pre["pretokenizers"][0], &second = pre["pretokenizers"][1];
    if (kind(first) == "Digits" && first.value("individual_digits", false) && kind(second) == "ByteLevel" &&
        second.value("use_regex", true)) {
      return "smollm";
    }
    constexpr std::string_view kLlama3 = "\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*";
    if (kind(first) == "Split" &&
        first.dump().find(Json(kLlama3).dump().substr(1, kLlama3.size())) != std::string::npos &&
        kind(second) == "ByteLevel") {
      return "llama3";
    }
  }
  throw NotSupported(
      error_text("tokenizer.json: pre_tokenizer", "that of SmolLM2, GPT-2 or LLaMA-3", text.substr(0, 80)));
}

void read_added_tokens(const Json& json, TokenizerData& data) {
  const Json tokens = json.value("added_tokens", Json::array());
  for (const Json& token : tokens) {
    const int64_t id = field<int64_t>(token, "id", -1);
    if (id < 0 || id > (1 << 24)) throw CorruptFile(error_text("tokenizer.json: added_tokens", "an id", token.dump()));
    if (static_cast<size_t>(id) >= data.pieces.size()) data.pieces.resize(static_cast<size_t>(id) + 1);
    data.pieces[static_cast<size_t>(id)] = field<std::string>(token, "content", "");
    data.special_ids.push_back(static_cast<int32_t>(id));
    if (field<bool>(token, "special", false)) data.control_ids.push_back(static_cast<int32_t>(id));
  }
}

int32_t id_of_piece(const TokenizerData& data, const Json& token) {
  const Json text = token.is_object() ? token.value("content", Json()) : token;
  if (!text.is_string()) return -1;
  const auto it = std::find(data.pieces.begin(), data.pieces.end(), text.get<std::string>());
  return it == data.pieces.end() ? -1 : static_cast<int32_t>(it - data.pieces.begin());
}

TokenizerData read_tokenizer(const fs::path& directory) {
  TokenizerData data;
  if (!fs::exists(directory / "tokenizer.json")) return data;
  const Json json = read_json(directory / "tokenizer.json");
  const Json model = json.value("model", Json::object());
  if (model.value("type", "BPE") != "BPE") {
    throw NotSupported(error_text("tokenizer.json: model", "BPE", model.value("type", "none")));
  }
  data.model = "bpe";
  data.pre_tokenizer = pre_tokenizer_of(json);
  const Json vocab = model.value("vocab", Json::object());
  for (const auto& [piece, id] : vocab.items()) {
    const int64_t value = id.is_number_integer() ? id.get<int64_t>() : -1;
    if (value < 0 || value > (1 << 24)) throw CorruptFile(error_text("tokenizer.json: vocab", "an id", id.dump()));
    if (static_cast<size_t>(value) >= data.pieces.size()) data.pieces.resize(static_cast<size_t>(value) + 1);
    data.pieces[static_cast<size_t>(value)] = piece;
  }
  const Json merges = model.value("merges", Json::array());
  for (const Json& merge : merges) {
    if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      data.merges.emplace_back(merge[0].get<std::string>(), merge[1].get<std::string>());
      continue;
    }
    const std::string pair = merge.is_string() ? merge.get<std::string>() : "";
    const size_t space = pair.find(' ', 1);
    if (space == std::string::npos) throw CorruptFile(error_text("tokenizer.json: merges", "two pieces", merge.dump()));
    data.merges.emplace_back(pair.substr(0, space), pair.substr(space + 1));
  }
  read_added_tokens(json, data);
  const fs::path config_path = directory / "tokenizer_config.json";
  if (fs::exists(config_path)) {
    const Json config = read_json(config_path);
    data.bos_id = id_of_piece(data, config.value("bos_token", Json()));
    data.eos_id = id_of_piece(data, config.value("eos_token", Json()));
    data.unk_id = id_of_piece(data, config.value("unk_token", Json()));
    data.pad_id = id_of_piece(data, config.value("pad_token", Json()));
    data.add_bos = field<bool>(config, "add_bos_token", false);
    const Json chat = config.value("chat_template", Json());
    if (chat.is_string()) data.chat_template = chat.get<std::string>();
  }
  if (data.chat_template.empty() && fs::exists(directory / "chat_template.jinja")) {
    data.chat_template = read_text_file(directory / "chat_template.jinja", kMaxJson);
  }
  if (data.eos_id >= 0) data.end_ids.push_back(data.eos_id);
  const fs::path generation = directory / "generation_config.json";
  if (fs::exists(generation)) {
    const Json eos = read_json(generation).value("eos_token_id", Json());
    const Json ids = eos.is_array() ? eos : Json::array({eos});
    for (const Json& id : ids) {
      if (id.is_number_integer()) data.end_ids.push_back(id.get<int32_t>());
    }
  }
  return data;
}

}  // namespace

ModelFiles open_hf_directory(const fs::path& directory) {
  ModelFiles files;
  if (!fs::exists(directory / "config.json")) {
    throw InvalidArgument(error_text(directory.string(), "config.json", "none", "a .gguf file or a model directory"));
  }
  files.config = read_model_config(read_json(directory / "config.json"));
  files.weights = weight_files(directory);
  files.tensors = view_model_tensors(std::make_shared<SafetensorsSource>(files.weights), files.config);
  files.tokenizer = read_tokenizer(directory);
  return files;
}

}  // namespace espalier
