// The verbs of `espalier`.
#pragma once

#include <vector>

#include "program/verb.h"

namespace espalier {

// In the order of --help.
std::vector<Verb> verbs();

// A verb of libtorch's half: `espalier` hands it to espalier-train, which stands beside it.
Verb training_verb(const std::string& name, const std::string& summary);

}  // namespace espalier
