// The tokenizer of a model directory: tokenizer.json (the tokenizers library's), tokenizer_config.json,
// generation_config.json.
#pragma once

#include <filesystem>

#include "core/tokenizer_data.h"

namespace espalier {

// No pieces where the directory has none. Throws CorruptFile, or NotSupported naming a part that is not known.
TokenizerData read_hf_tokenizer(const std::filesystem::path& directory);

}  // namespace espalier
