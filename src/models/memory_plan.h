// What running a model will cost, before anything is loaded.
#pragma once

#include <cstdint>
#include <string>

#include "models/model.h"

namespace espalier {

struct MemoryPlan {
  WeightType weights;
  int64_t weight_bytes = 0;
  int64_t tokens = 0;            // how long the sequence gets
  int64_t state_bytes = 0;       // of one sequence at that length
  bool constant_state = false;   // the state's size does not depend on the length
  int64_t activation_bytes = 0;  // of a prefill chunk, the greatest step
};

// A sequence's state after `tokens`, computed from the layouts.
int64_t state_bytes(const ModelConfig& config, const std::vector<std::unique_ptr<Mechanism>>& mechanisms,
                    int64_t tokens);
bool is_constant_state(const std::vector<std::unique_ptr<Mechanism>>& mechanisms);
int64_t parameter_count(const ModelFiles& files);

// `tokens` 0: the model's positions.
MemoryPlan plan_memory(const ModelFiles& files, WeightType weights, int64_t tokens);
// One line.
std::string memory_plan_text(const MemoryPlan& plan);
std::string mebibytes(int64_t bytes);  // "12.3 MiB"

}  // namespace espalier
