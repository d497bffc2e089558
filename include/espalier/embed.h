// Vectors of texts.
#pragma once

#include <string>
#include <vector>

#include "espalier/model.h"

namespace espalier {

enum class Pooling {
  kMean,    // of all tokens' hidden states
  kFirst,   // the first token's hidden state
  kPooler,  // what the model's pooler makes of it
};

// One vector of ModelInfo::hidden_size numbers per text, of length 1 if `normalize`. Texts of a call go through the
// model together and do not change each other's numbers. Throws InvalidArgument for a text without tokens,
// NotSupported for a pooler that the model does not have.
ESPALIER_API std::vector<std::vector<float>> embed(Session& session, const std::vector<std::string>& texts,
                                                   Pooling pooling = Pooling::kMean, bool normalize = true);

}  // namespace espalier
