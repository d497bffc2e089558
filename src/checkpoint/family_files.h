// What differs between model families in Hugging Face directories: config.json and the names of tensors.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "checkpoint/model_files.h"

namespace espalier {

class ConfigJson {
 public:
  // Keeps a reference. `path` names the object inside the file for errors.
  explicit ConfigJson(const nlohmann::json& json, std::string path = "config.json: ")
      : json_(json), path_(std::move(path)) {}

  // The field's value, or `fallback` where it is missing or null. Throws CorruptFile for another kind of value.
  bool flag(const char* key, bool fallback) const;
  double number(const char* key, double fallback) const;
  std::string text(const char* key, const std::string& fallback) const;
  // In [1, limit]; without a fallback (-1) it must be there.
  int64_t size(const char* key, int64_t fallback, int64_t limit) const;
  // A token of the vocabulary.
  int32_t id(const char* key, int64_t fallback, int64_t vocab_size) const;
  // Throws NotSupported.
  void require(bool condition, const char* key, const std::string& expected, const std::string& got) const;
  // A field that must be `expected` where it is there.
  void require_flag(const char* key, bool expected) const;
  Activation activation(const char* key, const std::string& fallback) const;

  // How many classes: id2label's entries, or num_labels, or transformers' two.
  int64_t labels() const;

  // Whether "architectures" names one that ends so.
  bool is_architecture(std::string_view ending) const;

  bool has(const char* key) const;
  ConfigJson object(const char* key) const;
  std::string where(const char* key) const { return path_ + key; }

 private:
  template <class T>
  T field(const char* key, T fallback) const;

  const nlohmann::json& json_;
  std::string path_;
};

// By model_type. Throws NotSupported naming what a family does not do, CorruptFile for values that make no sense.
ModelConfig read_model_config(const nlohmann::json& json);
// The tensors under the names that the family's text (src/models) asks for.
std::shared_ptr<const TensorSource> view_model_tensors(std::shared_ptr<const TensorSource> tensors,
                                                       const ModelConfig& config);

struct FamilyFiles {
  // Leaves `family` alone, and `attention` where it is softmax.
  ModelConfig (*read_config)(const ConfigJson& json);
  // Null: tensors are named as they are.
  std::shared_ptr<const TensorSource> (*view)(std::shared_ptr<const TensorSource> tensors,
                                              const ModelConfig& config) = nullptr;
};

// Each is defined in <family>_files.cpp. Their list, by model_type: two words for a family.
FamilyFiles llama_files(), gpt2_files(), bert_files(), t5_files(), flash_files();

struct FamilyEntry {
  std::string_view model_type;
  FamilyFiles (*files)();
};
inline constexpr FamilyEntry kFamilyFiles[] = {
    {"llama", llama_files}, {"gpt2", gpt2_files}, {"bert", bert_files}, {"t5", t5_files}, {"flash", flash_files}};

}  // namespace espalier
