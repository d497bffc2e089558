// SentencePiece's own model files (spiece.model, tokenizer.model): a protobuf message "ModelProto".
#pragma once

#include <filesystem>

#include "core/tokenizer_data.h"

namespace espalier {

// Pieces, scores or merges, normalizer and special tokens. Throws CorruptFile for a malformed message, NotSupported for
// an algorithm other than unigram and BPE.
TokenizerData read_sentence_piece_model(const std::filesystem::path& path);

}  // namespace espalier
