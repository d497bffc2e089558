#include "training/student.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cmath>

#include "attention/initial_values.h"
#include "core/rng.h"
#include "models/step_loader.h"

namespace espalier {
namespace {

class TensorLoader {
 public:
  explicit TensorLoader(const TensorSource& tensors) : tensors_(tensors) {}
  TrainMatrix matrix(const std::string& name, int64_t outputs, int64_t inputs) {
    return {.weight = read(name, {outputs, inputs})};
  }
  at::Tensor vector(const std::string& name, int64_t n) { return read(name, {n}); }

 private:
  at::Tensor read(const std::string& name, const std::vector<int64_t>& shape) {
    const std::vector<float> values = tensors_.read_checked(name, shape);
    return at::from_blob(const_cast<float*>(values.data()), shape, at::kFloat).clone();
  }
  const TensorSource& tensors_;
};

}  // namespace

Student::Student(const ModelFiles& files, const StudentOptions& options) : config_(files.config) {
  TensorLoader loader(*files.tensors);
  teacher_ = load_llama<TrainContext>(loader, config_);
  student_ = teacher_;  // tensors share their memory
  add_mechanisms(options);
  if (options.trained == Trained::kLora) add_lora(options);
  if (options.trained == Trained::kFull) add_full();
  set_trained(true, true);
}

void Student::add_mechanisms(const StudentOptions& options) {
  attention_.assign(static_cast<size_t>(config_.num_hidden_layers), options.attention);
  for (int64_t l = 0; l < config_.num_hidden_layers; ++l) {
    const AttentionShape shape = attention_shape(config_, l);
    const AttentionSpec spec = AttentionSpec::parse(options.attention), softmax = AttentionSpec::parse("softmax");
    teacher_attention_.push_back({make_train_mechanism(softmax, shape), {}});
    TrainAttention own{make_train_mechanism(spec, shape), {}};
    std::vector<std::string> names;
    for (const ParameterInfo& info : make_mechanism(spec, shape)->parameters()) {
      const std::vector<float> values = initial_values(info, l);
      at::Tensor tensor = at::from_blob(const_cast<float*>(values.data()), info.shape, at::kFloat).clone();
      own.parameters.push_back(tensor);
      names.push_back(info.name);
      parameters_.push_back({.name = parameter_name(info, l),
                             .tensor = tensor,
                             .feature = true,
                             .fixed = !info.trained,
                             .bf16 = info.init == Init::kIdentity});
    }
    student_attention_.push_back(std::move(own));
    mechanism_names_.push_back(std::move(names));
  }
}

template <class Body>
void Student::each_matrix(Body&& body) {
  for (size_t l = 0; l < student_.layers.size(); ++l) {
    LlamaLayer<TrainContext>& layer = student_.layers[l];
    const std::string prefix = "model.layers." + std::to_string(l) + ".";
    body(layer.q, prefix + "self_attn.q_proj", false);
    body(layer.k, prefix + "self_attn.k_proj", false);
    body(layer.v, prefix + "self_attn.v_proj", false);
    body(layer.o, prefix + "self_attn.o_proj", false);
    body(layer.gate, prefix + "mlp.gate_proj", true);
    body(layer.up, prefix + "mlp.up_proj", true);
    body(layer.down, prefix + "mlp.down_proj", true);
  }
}

// A starts at random and B at 0 (Hu et al. 2021): the student starts as the base.
void Student::add_lora(const StudentOptions& options) {
  Random random(options.seed, 0x10ca);
  each_matrix([&](TrainMatrix& matrix, const std::string& name, bool mlp) {
    const int64_t rank = mlp ? options.lora_rank_mlp : options.lora_rank;
    if (rank == 0) return;
    const int64_t outputs = matrix.weight.size(0), inputs = matrix.weight.size(1);
    std::vector<float> values(static_cast<size_t>(rank * inputs));
    const float bound = std::sqrt(3.0f / static_cast<float>(inputs));
    for (float& value : values) value = random.uniform(-bound, bound);
    matrix.lora_a = at::from_blob(values.data(), {rank, inputs}, at::kFloat).clone();
    matrix.lora_b = at::zeros({outputs, rank}, at::kFloat);
    matrix.lora_scale = options.lora_scale;
    parameters_.push_back({.name = name + ".lora_a", .tensor = matrix.lora_a, .bf16 = true});
    parameters_.push_back({.name = name + ".lora_b", .tensor = matrix.lora_b, .bf16 = true});
  });
}

void Student::add_full() {
  each_matrix([&](TrainMatrix& matrix, const std::string& name, bool) {
    matrix.weight = matrix.weight.clone();
    parameters_.push_back({.name = name + ".weight", .tensor = matrix.weight, .bf16 = true});
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

at::Tensor hidden_states(TrainContext context, const ModelConfig& config, const LlamaWeights<TrainContext>& weights,
                         const at::Tensor& tokens) {
  at::Tensor x = context.embed(weights.embed, tokens);
  for (size_t l = 0; l < weights.layers.size(); ++l) {
    x = x + llama_attention(context, config, weights.layers[l], static_cast<int64_t>(l), x);
    x = x + llama_mlp(context, config, weights.layers[l], x);
  }
  return context.rms_norm(x, weights.norm, config.rms_norm_eps);
}

}  // namespace espalier
