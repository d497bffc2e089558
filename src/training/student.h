// A teacher and its student: one copy of the base weights, the student's attention and LoRA pairs beside them.
#pragma once

#include <string>
#include <vector>

#include "checkpoint/adapter.h"
#include "training/train_model.h"

namespace espalier {

// A trainable tensor under the name that the adapter stores it with.
struct Parameter {
  std::string name;
  at::Tensor tensor;
  bool feature = false;  // of the mechanism (features, filters, alpha): the larger learning rate
  bool fixed = false;    // drawn once, stored, never trained
  bool bf16 = false;     // how the adapter stores it; small tensors keep f32
};

// What is trained beside the mechanism's own parameters.
enum class Trained { kAttention, kLora, kFull };

struct StudentOptions {
  std::string attention;  // SPEC of every layer
  Trained trained = Trained::kLora;
  int64_t lora_rank = 8;      // of q, k, v, o
  int64_t lora_rank_mlp = 8;  // of gate, up, down; 0: none
  double lora_scale = 2.0;
  uint64_t seed = 1;
};

class Student {
 public:
  // Reads the base into f32 tensors. Full training makes a second copy of the layers' matrices.
  Student(const ModelFiles& files, const StudentOptions& options);

  const ModelConfig& config() const { return config_; }
  const TrainModel& teacher() const { return *teacher_; }
  const TrainModel& student() const { return *student_; }
  const std::vector<TrainAttention>& teacher_attention() const { return teacher_attention_; }
  const std::vector<TrainAttention>& student_attention() const { return student_attention_; }
  // The mechanism's parameters of each layer, then LoRA pairs, layer by layer.
  std::vector<Parameter>& parameters() { return parameters_; }
  // Which kinds the backward passes give gradients to.
  void set_trained(bool features, bool weights);
  // A layer's parameter of that name; null when the mechanism has none.
  at::Tensor* mechanism_parameter(int64_t layer, const std::string& name);

  // Rounds what the adapter stores as bf16, so that the student is what will be loaded.
  void round_to_stored();
  void write(const std::filesystem::path& directory, const AdapterInfo& info) const;
  // The mechanism's attention over all layers, as the adapter writes it.
  std::vector<std::string> attention() const { return attention_; }

 private:
  void add_mechanisms(const ModelFiles& files, const StudentOptions& options);
  void add_lora(const StudentOptions& options);
  void add_full();

  ModelConfig config_;
  std::unique_ptr<TrainModel> teacher_, student_;
  std::vector<TrainAttention> teacher_attention_, student_attention_;
  std::vector<std::vector<std::string>> mechanism_names_;  // per layer, beside student_attention_'s parameters
  std::vector<Parameter> parameters_;
  std::vector<std::string> attention_;
};

}  // namespace espalier
