// The verbs' entry points; see registry.cpp.
#pragma once

#include "cli/verb.h"

namespace espalier {

std::function<int()> add_generate(CLI::App& app);
std::function<int()> add_chat(CLI::App& app);
std::function<int()> add_score(CLI::App& app);
std::function<int()> add_encode(CLI::App& app);
std::function<int()> add_tokenize(CLI::App& app);
std::function<int()> add_inspect(CLI::App& app);
std::function<int()> add_evaluate(CLI::App& app);
std::function<int()> add_bench(CLI::App& app);
std::function<int()> add_save(CLI::App& app);
std::function<int()> add_ngram(CLI::App& app);
std::function<int()> add_training_verb(CLI::App& app);

}  // namespace espalier
