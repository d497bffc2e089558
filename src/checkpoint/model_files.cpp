#include "checkpoint/model_files.h"

#include "checkpoint/adapter.h"
#include "checkpoint/gguf.h"
#include "checkpoint/hf_directory.h"
#include "core/error.h"
#include "core/file.h"
#include "core/hash.h"

namespace espalier {

std::string base_hash(const ModelFiles& files) {
  if (files.hash->empty()) {
    Sha256 hash;
    for (const std::filesystem::path& path : files.weights) hash.add(MappedFile(path).bytes());
    *files.hash = hash.finish();
  }
  return *files.hash;
}

ModelFiles open_model(const std::filesystem::path& model, const OpenOptions& options) {
  std::error_code ignored;
  if (!std::filesystem::exists(model, ignored)) {
    throw InvalidArgument(error_text(model.string(), "a .gguf file or a model directory", "no such file",
                                     "`make models`, or the path of a model that you have"));
  }
  ModelFiles files = std::filesystem::is_directory(model, ignored) ? open_hf_directory(model) : open_gguf(model);
  if (!options.adapter.empty()) apply_adapter(files, options.adapter);
  return files;
}

}  // namespace espalier
