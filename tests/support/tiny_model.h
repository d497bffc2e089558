// Small random models of any family in memory: what the laws are tried on.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "models/model.h"

namespace espalier::testing {

struct TinyModel {
  std::string family = "llama";
  int64_t vocab_size = 97;
  int64_t hidden_size = 48;
  int64_t intermediate_size = 80;
  int64_t layers = 2;
  int64_t heads = 3;
  int64_t heads_kv = 1;
  int64_t head_dim = 16;
  int64_t max_positions = 4096;
  bool tied = true;
  uint64_t seed = 1;
  // One SPEC for all layers, or one per layer. The mechanisms' parameters are random too, not at their initial
  // values, so that every part takes part.
  std::vector<std::string> attention = {"softmax"};
  std::string encoder_attention = "softmax";
  std::vector<MechanismEntry> more_mechanisms = {};
};

ModelFiles make_tiny_model(const TinyModel& shape);
std::unique_ptr<Model> load_tiny_model(const TinyModel& shape, WeightType weights = WeightType::kF32,
                                       const Kernels* kernels = nullptr);

// The state before a text: one that has read a source, where the model needs one.
SequenceState start(const Model& model);

// `count` random ids below `vocab_size`.
std::vector<int32_t> random_tokens(int64_t count, int64_t vocab_size, uint64_t seed);

}  // namespace espalier::testing
