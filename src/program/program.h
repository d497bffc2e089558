// The front of both programs: one of several verbs is parsed and run; errors are one line each, and an exit code.
#pragma once

#include <string>
#include <vector>

#include "program/verb.h"

namespace espalier {

// Parses `argv` and runs the verb that it names. Returns the exit code: 0 ok, 1 failed, 2 usage, or what the verb
// returns. `description` heads --help. `memory_hint` says what to try where memory ran out.
int run_program(const std::string& description, const std::vector<Verb>& verbs, const std::string& memory_hint,
                int argc, char** argv);

}  // namespace espalier
