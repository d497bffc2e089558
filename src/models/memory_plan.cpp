#include "models/memory_plan.h"

#include <algorithm>
#include <cstdio>

#include "models/step_loader.h"

namespace espalier {
namespace {

constexpr int64_t kFloat = sizeof(float);

// Rows in flight at the widest point of a layer, and one row of logits (logits of a whole chunk come on top where a
// verb wants them).
int64_t activation_bytes(const ModelConfig& config) {
  const int64_t both = config.head_dim + config.dim_v();
  const int64_t attention = (config.num_attention_heads + config.num_key_value_heads) * both;
  const int64_t mlp = 3 * config.intermediate_size;
  const int64_t kept = config.num_key_value_heads * both * config.num_hidden_layers;  // Pending
  const int64_t row = 4 * config.hidden_size + attention + mlp + kept;
  return (Model::kPrefillChunk * row + config.vocab_size) * kFloat;
}

}  // namespace

bool is_constant_state(const std::vector<std::unique_ptr<Mechanism>>& mechanisms) {
  return std::all_of(mechanisms.begin(), mechanisms.end(),
                     [](const auto& mechanism) { return mechanism->layout().bounded(); });
}

int64_t state_bytes(const ModelConfig& config, const std::vector<std::unique_ptr<Mechanism>>& mechanisms,
                    int64_t tokens) {
  int64_t total = 0;
  for (const TailShape& tail : tail_shapes(config, mechanisms)) total += RowTail(tail).bytes();
  for (const auto& mechanism : mechanisms) {
    const StateLayout layout = mechanism->layout();
    total += LayerState(layout).bytes();
    if (!layout.bounded()) total += tokens * layout.heads_kv * (layout.dim_k + layout.dim_v) * kFloat;
  }
  return total;
}

int64_t parameter_count(const ModelFiles& files) {
  int64_t count = 0;
  for (const std::string& name : files.tensors->names()) count += files.tensors->find(name)->elements();
  return count;
}

MemoryPlan plan_memory(const ModelFiles& files, WeightType weights, int64_t tokens) {
  const auto mechanisms = load_mechanisms(files.config, *files.tensors);
  MemoryPlan plan{.weights = weights, .tokens = tokens > 0 ? tokens : files.config.max_position_embeddings};
  for (const std::string& name : files.tensors->names()) {
    const TensorInfo& tensor = *files.tensors->find(name);
    const double each = tensor.shape.size() == 2 ? bytes_per_weight(weights) : kFloat;
    plan.weight_bytes += static_cast<int64_t>(static_cast<double>(tensor.elements()) * each);
  }
  plan.constant_state = is_constant_state(mechanisms);
  plan.state_bytes = state_bytes(files.config, mechanisms, plan.tokens);
  plan.activation_bytes = activation_bytes(files.config);
  return plan;
}

std::string mebibytes(int64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.1f MiB", static_cast<double>(bytes) / (1 << 20));
  return text;
}

std::string memory_plan_text(const MemoryPlan& plan) {
  return "memory: weights " + mebibytes(plan.weight_bytes) + " (" + std::string(weight_type_name(plan.weights)) +
         "), state " + mebibytes(plan.state_bytes) +
         (plan.constant_state ? " at any length" : " at " + std::to_string(plan.tokens) + " tokens") +
         ", activations " + mebibytes(plan.activation_bytes);
}

}  // namespace espalier
