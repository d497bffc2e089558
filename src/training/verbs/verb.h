// The verbs of espalier-train: options, and what they do. One file per verb, one line in main.cpp.
#pragma once

#include <CLI/CLI.hpp>
#include <atomic>
#include <functional>
#include <string>

namespace espalier {

// Add options to `app` and return the action; what it returns is the exit code. `command` is the line that adapters
// record.
std::function<int()> add_linearize(CLI::App& app, const std::string& command);
std::function<int()> add_draft(CLI::App& app, const std::string& command);

// Set by Ctrl-C once install_interrupt() was called; a second one ends the program at once.
const std::atomic<bool>& interrupted();
void install_interrupt();

// Threads and memory for training; 0 threads: as many as there are processors.
void set_up_training(int threads);
int training_threads(int threads);

}  // namespace espalier
