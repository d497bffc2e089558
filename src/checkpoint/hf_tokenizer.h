// The tokenizer of a model directory: tokenizer.json (the tokenizers library's), else spiece.model or tokenizer.model
// (SentencePiece's); with tokenizer_config.json and generation_config.json.
#pragma once

#include <filesystem>
#include <string>

#include "core/tokenizer_data.h"

namespace espalier {

// No pieces where the directory has none. `family` says what stands around a text where the file does not; ids below
// vocab_size that it has no piece for stand for nothing. Throws
// CorruptFile, or NotSupported naming a part that is not known.
TokenizerData read_hf_tokenizer(const std::filesystem::path& directory, const std::string& family, int64_t vocab_size);

}  // namespace espalier
