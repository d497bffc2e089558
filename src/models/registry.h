// The model families of families.h, by name.
#pragma once

#include <memory>
#include <string_view>

#include "models/model.h"

namespace espalier {

struct ModelFamily {
  std::string_view name;  // as ModelConfig::family says it
  std::unique_ptr<Model> (*load)(const ModelFiles& files, const LoadOptions& options);
  ModelConfig (*encoder_config)(const ModelConfig& config) = nullptr;  // of an encoder-decoder: its encoder's
};

// Throws NotSupported naming the family and the known ones.
const ModelFamily& model_family(std::string_view name);

}  // namespace espalier
