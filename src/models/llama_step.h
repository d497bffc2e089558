// The LLaMA family at inference.
#pragma once

#include <memory>

#include "models/model.h"

namespace espalier {

std::unique_ptr<Model> load_llama_step(const ModelFiles& files, const LoadOptions& options);

}  // namespace espalier
