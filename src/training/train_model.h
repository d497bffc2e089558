// A decoder or an encoder of any family at training: its text (src/models) on tensors with gradients.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <string>

#include "checkpoint/model_files.h"
#include "models/context.h"
#include "training/train_context.h"

namespace espalier {

class TrainModel {
 public:
  virtual ~TrainModel() = default;

  virtual int64_t layers() const = 0;
  virtual at::Tensor embed(TrainContext& context, const at::Tensor& tokens) const = 0;  // [B, T] -> [B * T, d]
  // What a layer's attention adds to the residual stream x [B * T, d], and what the layer makes of both.
  virtual at::Tensor attention(TrainContext& context, int64_t layer, const at::Tensor& x) const = 0;
  virtual at::Tensor rest(TrainContext& context, int64_t layer, const at::Tensor& x,
                          const at::Tensor& attention) const = 0;
  // What a layer's mechanism takes: the normed rows, q, k, v.
  virtual std::array<at::Tensor, 4> projections(TrainContext& context, int64_t layer, const at::Tensor& x) const = 0;
  // Any output of every row, [B * T, width]; kHidden is what the final norm gives. The model must have it (gives()).
  virtual at::Tensor output(TrainContext& context, const at::Tensor& tokens, Output what) const = 0;
  virtual bool gives(Output what) const = 0;
  // Of decoders: what makes logits of kHidden, [V, d].
  virtual const TrainMatrix& head() const = 0;
  // What an encoder-decoder's contexts take as their source (set_source): tokens [B, S] -> [B, S, d]. Throws
  // NotSupported for others.
  virtual at::Tensor read_source(const at::Tensor& tokens) const;

  // All linear layers that may be trained.
  virtual void each_matrix(const std::function<void(TrainMatrix&, const LinearLayer&)>& body) = 0;
  // Shares all tensors with this one.
  virtual std::unique_ptr<TrainModel> clone() const = 0;
};

// The attention that a layer's files say, with its parameters.
TrainAttention stored_attention(const ModelConfig& config, const TensorSource& tensors, int64_t layer);

// Reads the weights of the family that files.config names into f32 tensors. Throws NotSupported for an unknown one.
std::unique_ptr<TrainModel> load_train_model(const ModelFiles& files);

}  // namespace espalier
