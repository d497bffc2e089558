#include "training/train_model.h"

#include <ATen/ATen.h>

#include "core/error.h"
#include "models/families.h"
#include "models/forward.h"
#include "models/relative_bias.h"
#include "models/step_loader.h"

namespace espalier {
namespace {

class TensorLoader {
 public:
  explicit TensorLoader(const TensorSource& tensors) : tensors_(tensors) {}
  TrainMatrix matrix(const std::string& name, int64_t outputs, int64_t inputs, bool bias = false) {
    TrainMatrix matrix{.weight = read(name + ".weight", {outputs, inputs})};
    if (bias) matrix.bias = read(name + ".bias", {outputs});
    return matrix;
  }
  at::Tensor vector(const std::string& name, int64_t n) { return read(name, {n}); }
  at::Tensor relative_bias(const std::string& name, const ModelConfig& config) {
    std::vector<float> spread = spread_relative_bias(
        tensors_.read_checked(name, {config.relative_bias_buckets, config.num_attention_heads}), config);
    return at::from_blob(spread.data(), {static_cast<int64_t>(spread.size())}, at::kFloat).clone();
  }
  bool has(const std::string& name) const { return tensors_.find(name) != nullptr; }

 private:
  at::Tensor read(const std::string& name, const std::vector<int64_t>& shape) {
    const std::vector<float> values = tensors_.read_checked(name, shape);
    return at::from_blob(const_cast<float*>(values.data()), shape, at::kFloat).clone();
  }
  const TensorSource& tensors_;
};

template <class Family>
class TrainFamilyModel : public TrainModel {
 public:
  explicit TrainFamilyModel(const ModelFiles& files) : config_(files.config) {
    TensorLoader loader(*files.tensors);
    weights_ = Family::template load<TrainContext>(loader, config_);
  }

  int64_t layers() const override { return static_cast<int64_t>(weights_.layers.size()); }
  at::Tensor embed(TrainContext& context, const at::Tensor& tokens) const override {
    return Family::embed(context, config_, weights_, tokens);
  }
  at::Tensor attention(TrainContext& context, int64_t layer, const at::Tensor& x) const override {
    return attention_part<Family>(context, config_, weights_.layers[static_cast<size_t>(layer)], layer, x);
  }
  at::Tensor rest(TrainContext& context, int64_t layer, const at::Tensor& x,
                  const at::Tensor& attention) const override {
    return rest_of_layer<Family>(context, config_, weights_.layers[static_cast<size_t>(layer)], layer, x, attention);
  }
  std::array<at::Tensor, 4> projections(TrainContext& context, int64_t layer, const at::Tensor& x) const override {
    return Family::projections(context, config_, layer, weights_.layers[static_cast<size_t>(layer)], x);
  }
  at::Tensor output(TrainContext& context, const at::Tensor& tokens, Output what) const override {
    const at::Tensor hidden = forward_hidden<Family>(context, config_, weights_, tokens);
    return output_of<Family>(context, config_, weights_, hidden, what);
  }
  bool gives(Output what) const override { return Family::gives(weights_, what); }
  const TrainMatrix& head() const override { return head_of<TrainContext>(weights_); }

  void each_matrix(const std::function<void(TrainMatrix&, const LinearLayer&)>& body) override {
    for (int64_t l = 0; l < layers(); ++l) {
      Family::each_matrix(weights_.layers[static_cast<size_t>(l)], config_, l, body);
    }
  }
  std::unique_ptr<TrainModel> clone() const override { return std::make_unique<TrainFamilyModel>(*this); }

 private:
  ModelConfig config_;
  typename Family::template Weights<TrainContext> weights_;
};

// An encoder beside it; the encoder is not trained.
template <class Family>
class TrainEncoderDecoder : public TrainFamilyModel<typename Family::Decoder> {
 public:
  explicit TrainEncoderDecoder(const ModelFiles& files)
      : TrainFamilyModel<typename Family::Decoder>(files), config_(Family::encoder_config(files.config)) {
    TensorLoader loader(*files.tensors);
    weights_ = Family::Encoder::template load<TrainContext>(loader, config_);
    for (int64_t l = 0; l < config_.num_hidden_layers; ++l) {
      attention_.push_back(stored_attention(config_, *files.tensors, l));
    }
  }

  at::Tensor read_source(const at::Tensor& tokens) const override {
    TrainContext context(config_, attention_, tokens.size(0), tokens.size(1));
    return forward_hidden<typename Family::Encoder>(context, config_, weights_, tokens)
        .view({tokens.size(0), tokens.size(1), -1});
  }
  std::unique_ptr<TrainModel> clone() const override { return std::make_unique<TrainEncoderDecoder>(*this); }

 private:
  ModelConfig config_;
  typename Family::Encoder::template Weights<TrainContext> weights_;
  std::vector<TrainAttention> attention_;
};

template <class Family>
std::unique_ptr<TrainModel> load(const ModelFiles& files) {
  if constexpr (EncoderDecoderFamily<Family>) {
    return std::make_unique<TrainEncoderDecoder<Family>>(files);
  } else {
    return std::make_unique<TrainFamilyModel<Family>>(files);
  }
}

// Of the family of that name; null if there is none.
template <class... Family>
std::unique_ptr<TrainModel> load_by_name(FamilyList<Family...>, const ModelFiles& files) {
  std::unique_ptr<TrainModel> model;
  ((Family::kName == files.config.family && (model = load<Family>(files))) || ...);
  return model;
}

}  // namespace

TrainAttention stored_attention(const ModelConfig& config, const TensorSource& tensors, int64_t layer) {
  const AttentionShape shape = attention_shape(config, layer);
  const AttentionSpec spec = AttentionSpec::parse(config.attention[static_cast<size_t>(layer)]);
  const auto mechanism = make_mechanism(spec, shape);
  check_fits(config, *mechanism, layer);
  TrainAttention attention{make_train_mechanism(spec, shape), {}};
  const auto values = mechanism_parameters(config, tensors, layer, *mechanism);
  for (const ParameterInfo& info : mechanism->parameters()) {
    const std::vector<float>& own = values[attention.parameters.size()];
    attention.parameters.push_back(at::from_blob(const_cast<float*>(own.data()), info.shape, at::kFloat).clone());
  }
  return attention;
}

at::Tensor TrainModel::read_source(const at::Tensor&) const {
  throw NotSupported(error_text("model", "an encoder-decoder", "a decoder"));
}

std::unique_ptr<TrainModel> load_train_model(const ModelFiles& files) {
  if (auto model = load_by_name(Families(), files)) return model;
  throw NotSupported(error_text("model", "a family that can be trained", "'" + files.config.family + "'"));
}

}  // namespace espalier
