// How likely a text is.
#pragma once

#include <string_view>
#include <vector>

#include "espalier/model.h"

namespace espalier {

struct Score {
  std::vector<int32_t> tokens;
  // Natural logarithms, of each token given those before it; the first has none, and is left out.
  std::vector<float> logprobs;
  double total = 0;  // their sum
};

// Throws NotSupported for a model that is no decoder, InvalidArgument for a text without tokens or too long a one.
ESPALIER_API Score score(Session& session, std::string_view text);

}  // namespace espalier
