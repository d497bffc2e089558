// Hidden states of texts, and the one vector that they are pooled into.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "models/model.h"

namespace espalier {

enum class Pool {
  kNone,    // every row
  kMean,    // of all rows
  kFirst,   // the first row
  kPooler,  // what the model's pooler makes of the first row
};

struct TextToEncode {
  std::span<const int32_t> tokens;       // at least one
  std::span<const int32_t> token_types;  // empty: all 0
};

struct EncodedText {
  std::vector<float> values;  // [rows, width]
  int64_t rows = 0, width = 0;
};

// A batch of texts in one step; texts do not change each other's numbers. `normalize`: pooled vectors get length 1.
// Throws NotSupported for a pooler that the model does not have. `output` is reused memory.
std::vector<EncodedText> encode_texts(const Model& model, std::span<const TextToEncode> texts, Pool pool,
                                      bool normalize, Workspace& workspace, StepOutput& output);

}  // namespace espalier
