#include "checkpoint/family_files.h"

#include "core/error.h"

namespace espalier {
namespace {

// "espalier": {"attention": SPEC or one for each layer, "encoder_attention": SPEC}: a linearized model that was saved
// whole.
void read_attention(const nlohmann::json& json, ModelConfig& config) {
  if (config.attention.empty()) config.set_attention("softmax");
  const auto own = json.find("espalier");
  if (own == json.end() || !own->is_object()) return;
  config.encoder_attention = ConfigJson(*own, "config.json: espalier.").text("encoder_attention", "softmax");
  config.encoder_attention_trained = own->contains("encoder_attention");
  if (!own->contains("attention")) return;
  const nlohmann::json& attention = (*own)["attention"];
  config.attention_trained = true;
  if (attention.is_string()) {
    config.attention.assign(config.attention.size(), attention.get<std::string>());
    return;
  }
  try {
    config.attention = attention.get<std::vector<std::string>>();
  } catch (const nlohmann::json::exception&) {
    throw CorruptFile(error_text("config.json: attention", "a SPEC, or a list", attention.dump().substr(0, 60)));
  }
  if (static_cast<int64_t>(config.attention.size()) != config.num_hidden_layers) {
    throw CorruptFile(error_text("config.json: espalier.attention",
                                 "one SPEC for each of " + std::to_string(config.num_hidden_layers) + " layers",
                                 std::to_string(config.attention.size())));
  }
}

}  // namespace

bool ConfigJson::has(const char* key) const {
  const auto it = json_.find(key);
  return it != json_.end() && !it->is_null();
}

template <class T>
T ConfigJson::field(const char* key, T fallback) const {
  if (!has(key)) return fallback;
  try {
    return json_.at(key).get<T>();
  } catch (const nlohmann::json::exception&) {
    throw CorruptFile(error_text(where(key), "another kind of value", json_.at(key).dump().substr(0, 60)));
  }
}

bool ConfigJson::flag(const char* key, bool fallback) const {
  return field<bool>(key, fallback);
}

double ConfigJson::number(const char* key, double fallback) const {
  return field<double>(key, fallback);
}

std::string ConfigJson::text(const char* key, const std::string& fallback) const {
  return field<std::string>(key, fallback);
}

int64_t ConfigJson::size(const char* key, int64_t fallback, int64_t limit) const {
  const int64_t value = field<int64_t>(key, fallback);
  if (value < 1 || value > limit) {
    throw CorruptFile(error_text(where(key), "[1, " + std::to_string(limit) + "]", std::to_string(value)));
  }
  return value;
}

int32_t ConfigJson::id(const char* key, int64_t fallback, int64_t vocab_size) const {
  const int64_t value = field<int64_t>(key, fallback);
  if (value < 0 || value >= vocab_size) {
    throw CorruptFile(
        error_text(where(key), "an id in [0, " + std::to_string(vocab_size) + ")", std::to_string(value)));
  }
  return static_cast<int32_t>(value);
}

void ConfigJson::require(bool condition, const char* key, const std::string& expected, const std::string& got) const {
  if (!condition) throw NotSupported(error_text(where(key), expected, got));
}

void ConfigJson::require_flag(const char* key, bool expected) const {
  const auto name = [](bool value) { return value ? "true" : "false"; };
  require(flag(key, expected) == expected, key, name(expected), name(!expected));
}

Activation ConfigJson::activation(const char* key, const std::string& fallback) const {
  return activation_by_name(text(key, fallback), where(key));
}

int64_t ConfigJson::labels() const {
  if (has("id2label") && json_.at("id2label").is_object() && !json_.at("id2label").empty()) {
    return static_cast<int64_t>(json_.at("id2label").size());
  }
  return size("num_labels", 2, 1 << 20);
}

bool ConfigJson::is_architecture(std::string_view ending) const {
  if (!has("architectures") || !json_.at("architectures").is_array()) return false;
  for (const auto& name : json_.at("architectures")) {
    if (name.is_string() && name.get<std::string>().ends_with(ending)) return true;
  }
  return false;
}

ConfigJson ConfigJson::object(const char* key) const {
  if (!json_.at(key).is_object()) {
    throw CorruptFile(error_text(where(key), "an object", json_.at(key).dump().substr(0, 60)));
  }
  return ConfigJson(json_.at(key), where(key) + ".");
}

ModelConfig read_model_config(const nlohmann::json& json) {
  const ConfigJson fields(json);
  const std::string family = fields.text("model_type", "");
  std::string known;
  for (const FamilyEntry& own : kFamilyFiles) {
    if (own.model_type == family) {
      ModelConfig config = own.files().read_config(fields);
      config.family = family;
      read_attention(json, config);
      return config;
    }
    known += (known.empty() ? "" : ", ") + std::string(own.model_type);
  }
  throw NotSupported(error_text(fields.where("model_type"), "a family out of " + known, "'" + family + "'"));
}

std::shared_ptr<const TensorSource> view_model_tensors(std::shared_ptr<const TensorSource> tensors,
                                                       const ModelConfig& config) {
  for (const FamilyEntry& own : kFamilyFiles) {
    if (own.model_type != config.family) continue;
    const auto view = own.files().view;
    return view ? view(std::move(tensors), config) : tensors;
  }
  return tensors;
}

}  // namespace espalier
