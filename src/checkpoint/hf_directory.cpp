#include "checkpoint/hf_directory.h"

#include <nlohmann/json.hpp>
#include <set>

#include "checkpoint/family_files.h"
#include "checkpoint/hf_tokenizer.h"
#include "checkpoint/json_file.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/tensor_views.h"
#include "core/error.h"

namespace espalier {
namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;

std::vector<fs::path> weight_files(const fs::path& directory) {
  if (fs::exists(directory / "model.safetensors")) return {directory / "model.safetensors"};
  const fs::path index = directory / "model.safetensors.index.json";
  if (!fs::exists(index)) {
    throw InvalidArgument(error_text(directory.string(), "model.safetensors", "none"));
  }
  const Json json = read_json_file(index);
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

}  // namespace

ModelFiles open_hf_directory(const fs::path& directory) {
  ModelFiles files;
  if (!fs::exists(directory / "config.json")) {
    throw InvalidArgument(error_text(directory.string(), "config.json", "none", "a .gguf file or a model directory"));
  }
  const Json config = read_json_file(directory / "config.json");
  files.config = read_model_config(config);
  files.config_json = config.dump();
  files.weights = weight_files(directory);
  files.tensors = view_model_tensors(std::make_shared<SafetensorsSource>(files.weights), files.config);
  files.views = std::dynamic_pointer_cast<const TensorViews>(files.tensors);
  files.tokenizer = read_hf_tokenizer(directory, files.config.family, files.config.vocab_size);
  return files;
}

}  // namespace espalier
