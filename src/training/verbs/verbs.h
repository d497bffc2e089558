// The verbs of espalier-train: options, and what they do. One file per verb; named in program/training_verbs.h.
#pragma once

#include <string>

#include "program/verb.h"

namespace espalier {

// Add options to `app` and return the action. `command` is the line that adapters record.
Action add_linearize(CLI::App& app, const std::string& command);
Action add_draft(CLI::App& app, const std::string& command);

// Threads and memory for training; 0 threads: as many as there are processors.
void set_up_training(int threads);
int training_threads(int threads);

}  // namespace espalier
