// A subcommand: its options, and what it does.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>

#include "core/error.h"

namespace espalier {

inline constexpr int kExitOk = 0, kExitFailed = 1, kExitUsage = 2, kExitInterrupted = 130;

// Options that contradict each other or have no meaning: exit code 2.
class UsageError : public InvalidArgument {
 public:
  using InvalidArgument::InvalidArgument;
};

// What a verb does once its options are read; what it returns is the exit code.
using Action = std::function<int()>;

struct Verb {
  std::string name, summary;
  std::function<Action(CLI::App& app)> add;  // adds the options to `app`
};

// A number in [low, high]; not NaN, which CLI::Range lets through.
CLI::Validator number_in(double low, double high);

}  // namespace espalier
