#include "training/student.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cmath>

#include "attention/shared/initial_values.h"
#include "core/rng.h"
#include "models/step_loader.h"

namespace espalier {
namespace {

at::Tensor tensor_of(const std::vector<float>& values, const std::vector<int64_t>& shape) {
  return at::from_blob(const_cast<float*>(values.data()), shape, at::kFloat).clone();
}

}  // namespace

Student::Student(const ModelFiles& files, const StudentOptions& options) : config_(files.config) {
  teacher_ = load_train_model(files);
  student_ = teacher_->clone();  // tensors share their memory
  add_mechanisms(files, options);
  if (options.trained == Trained::kLora) add_lora(options);
  if (options.trained == Trained::kFull) add_full();
  set_trained(true, true);
}

void Student::add_mechanisms(const ModelFiles& files, const StudentOptions& options) {
  attention_.assign(static_cast<size_t>(config_.num_hidden_layers), options.attention);
  ModelConfig own = config_;
  own.set_attention(options.attention);
  for (int64_t l = 0; l < config_.num_hidden_layers; ++l) {
    const AttentionShape shape = attention_shape(config_, l);
    const AttentionSpec spec = AttentionSpec::parse(options.attention);
    teacher_attention_.push_back(stored_attention(files.config, *files.tensors, l));
    TrainAttention trained{make_train_mechanism(spec, shape), {}};
    std::vector<std::string> names;
    const auto mechanism = make_mechanism(spec, shape);
    check_fits(own, *mechanism, l);
    for (const ParameterInfo& info : mechanism->parameters()) {
      at::Tensor tensor = tensor_of(initial_values(info, l), info.shape);
      trained.parameters.push_back(tensor);
      names.push_back(info.name);
      parameters_.push_back({.name = parameter_name(config_, info, l),
                             .tensor = tensor,
                             .feature = true,
                             .fixed = !info.trained,
                             .bf16 = info.init == Init::kIdentity});
    }
    student_attention_.push_back(std::move(trained));
    mechanism_names_.push_back(std::move(names));
  }
}

// A starts at random and B at 0 (Hu et al. 2021): the student starts as the base.
void Student::add_lora(const StudentOptions& options) {
  Random random(options.seed, 0x10ca);
  student_->each_matrix([&](TrainMatrix& matrix, const LinearLayer& linear) {
    const int64_t rank = linear.mlp ? options.lora_rank_mlp : options.lora_rank;
    if (rank == 0) return;
    const int64_t outputs = matrix.weight.size(0), inputs = matrix.weight.size(1);
    std::vector<float> values(static_cast<size_t>(rank * inputs));
    const float bound = std::sqrt(3.0f / static_cast<float>(inputs));
    for (float& value : values) value = random.uniform(-bound, bound);
    matrix.lora_a = at::from_blob(values.data(), {rank, inputs}, at::kFloat).clone();
    matrix.lora_b = at::zeros({outputs, rank}, at::kFloat);
    matrix.lora_scale = options.lora_scale;
    parameters_.push_back({.name = linear.name + ".lora_a", .tensor = matrix.lora_a, .bf16 = true});
    parameters_.push_back({.name = linear.name + ".lora_b", .tensor = matrix.lora_b, .bf16 = true});
  });
}

void Student::add_full() {
  student_->each_matrix([&](TrainMatrix& matrix, const LinearLayer& linear) {
    matrix.weight = matrix.weight.clone();
    parameters_.push_back({.name = linear.name + ".weight", .tensor = matrix.weight, .bf16 = true});
  });
}

void Student::set_trained(bool features, bool weights) {
  for (Parameter& parameter : parameters_) {
    parameter.tensor.set_requires_grad(!parameter.fixed && (parameter.feature ? features : weights));
  }
}

at::Tensor* Student::mechanism_parameter(int64_t layer, const std::string& name) {
  const std::vector<std::string>& names = mechanism_names_[static_cast<size_t>(layer)];
  for (size_t i = 0; i < names.size(); ++i) {
    if (names[i] == name) return &student_attention_[static_cast<size_t>(layer)].parameters[i];
  }
  return nullptr;
}

void Student::round_to_stored() {
  const at::NoGradGuard no_grad;
  for (Parameter& parameter : parameters_) {
    if (parameter.bf16) parameter.tensor.copy_(parameter.tensor.to(at::kBFloat16).to(at::kFloat));
  }
}

void Student::write(const std::filesystem::path& directory, const AdapterInfo& info) const {
  std::vector<at::Tensor> kept;
  std::vector<TensorToWrite> tensors;
  for (const Parameter& parameter : parameters_) {
    kept.push_back(parameter.tensor.detach().contiguous());
    tensors.push_back({parameter.name, parameter.tensor.sizes().vec(), kept.back().const_data_ptr<float>(),
                       parameter.bf16 ? StoredType::kBf16 : StoredType::kF32});
  }
  write_adapter(directory, info, tensors);
}

}  // namespace espalier
