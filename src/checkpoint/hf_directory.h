// A model directory in Hugging Face's layout: config.json, *.safetensors, tokenizer.json.
#pragma once

#include <filesystem>

#include "checkpoint/model_files.h"

namespace espalier {

// Throws InvalidArgument (a file is missing), CorruptFile, NotSupported (architecture or option, named).
ModelFiles open_hf_directory(const std::filesystem::path& directory);

}  // namespace espalier
