// The verbs that need libtorch: `espalier` names them, `espalier-train` runs them.
#pragma once

namespace espalier {

struct VerbName {
  const char *name, *summary;
};

inline constexpr VerbName kLinearizeVerb = {"linearize", "Turn a softmax model into a linear-attention model"};
inline constexpr VerbName kDraftVerb = {"draft", "Train a draft head on a model's own texts"};
inline constexpr VerbName kTrainingVerbs[] = {kLinearizeVerb, kDraftVerb};

}  // namespace espalier
