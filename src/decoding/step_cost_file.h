// Step times that a later run begins with, in one small file of the user's cache folder. They decide the size of trees,
// never a text.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "decoding/tree_cost.h"
#include "models/model.h"

namespace espalier {

// What step times depend on: processor, instruction set, threads, the model's sizes, its weights and attention.
std::string step_cost_key(const Model& model, const std::string& weights, int threads);

// $XDG_CACHE_HOME/espalier/step_times.json, else ~/.cache/espalier/step_times.json; nothing without either variable.
std::optional<std::filesystem::path> step_cost_path();

// The times kept under `key`; nothing when there are none, or the file is not readable as such.
std::optional<StepCost> load_step_cost(const std::filesystem::path& path, const std::string& key);
// Lays the times under `key` over the file's, and replaces it as a whole. At most 64 keys are kept. A cost that is not
// measured yet changes nothing; false when the file cannot be written.
bool save_step_cost(const std::filesystem::path& path, const std::string& key, const StepCost& cost);

}  // namespace espalier
