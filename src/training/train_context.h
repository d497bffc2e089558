// The Context that runs a model's forward on tensors with gradients; see models/context.h.
#pragma once

#include <ATen/ATen.h>

#include <array>
#include <memory>
#include <vector>

#include "attention/mechanism_train.h"
#include "checkpoint/model_files.h"
#include "models/context.h"

namespace espalier {

// A linear layer [out, in], with an optional LoRA pair beside it: y = x W^T + scale (x A^T) B^T + bias.
struct TrainMatrix {
  at::Tensor weight;
  at::Tensor bias = {};       // [out]; undefined for none
  at::Tensor lora_a, lora_b;  // [r, in], [out, r]; undefined for none
  double lora_scale = 1.0;
};

// One attention mechanism per layer with its parameters.
struct TrainAttention {
  std::shared_ptr<const TrainMechanism> mechanism;
  std::vector<at::Tensor> parameters;
};

class TrainContext {
 public:
  using Tensor = at::Tensor;  // [B * T, features]
  using Matrix = TrainMatrix;
  using Vector = at::Tensor;
  using Tokens = at::Tensor;  // [B, T] int64

  // Keeps a reference to `attention` (one entry per layer).
  TrainContext(const ModelConfig& config, const std::vector<TrainAttention>& attention, int64_t batch, int64_t tokens);

  Tensor embed(const Matrix& table, const Tokens& tokens) const;
  Tensor add_positions(const Tensor& x, const Matrix& table) const;
  Tensor add_token_types(const Tensor& x, const Matrix& table) const;
  Tensor rms_norm(const Tensor& x, const Vector& weight, double eps) const;
  Tensor layer_norm(const Tensor& x, const Vector& weight, const Vector& bias, double eps) const;
  template <size_t N>
  std::array<Tensor, N> project(const Tensor& x, const std::array<const TrainMatrix*, N>& weights) const {
    std::array<Tensor, N> results;
    for (size_t i = 0; i < N; ++i) results[i] = multiply(x, *weights[i]);
    return results;
  }
  Tensor scale_norm(const Tensor& x, const Vector& factor, double eps) const;
  Tensor add_sinusoids(const Tensor& x, const Vector& factor) const;
  Tensor scale_shift(const Tensor& x, const Vector& scale, const Vector& shift) const;
  Tensor shift_tokens(int64_t layer, const Tensor& x) const;
  Tensor rotate(const Tensor& x, int64_t heads, int64_t head_dim) const;
  Tensor attend(int64_t layer, const Tensor& hidden, const Tensor& q, const Tensor& k, const Tensor& v,
                const Vector* bias = nullptr) const;
  Tensor attend_source(int64_t layer, const Tensor& q, const Matrix& k, const Matrix& v) const;
  Tensor scale(const Tensor& x, double factor) const { return x * factor; }
  Tensor activate(Activation f, const Tensor& x) const;
  Tensor gated(Activation f, const Tensor& gate, const Tensor& up) const;
  Tensor add(const Tensor& a, const Tensor& b) const { return a + b; }
  Tensor add_vector(const Tensor& x, const Vector& vector) const { return x + vector; }
  Tensor output_rows(const Tensor& x) const { return x; }
  template <class Body>
  Tensor layer(const Tensor& x, Body&& body) const {
    return body(x);
  }

  // What an encoder made of the sources, [B, S, d]: for attend_source().
  void set_source(const Tensor& hidden) { source_ = hidden; }
  // [B, T] int64: for add_token_types(); without them all are of type 0.
  void set_token_types(const Tensor& types) { token_types_ = types; }

  // What attend() gives to the mechanism.
  TrainRows rows_of(const Tensor& hidden, const Tensor& q, const Tensor& k, const Tensor& v) const;
  // [B * T, H * D] -> [B, H, T, D].
  Tensor split_heads(const Tensor& x, int64_t heads) const;

 private:
  static Tensor multiply(const Tensor& x, const TrainMatrix& matrix);

  const ModelConfig& config_;
  const std::vector<TrainAttention>& attention_;
  int64_t batch_, tokens_;
  at::Tensor cosine_, sine_;  // [T, 1, D/2]
  at::Tensor source_, token_types_;
};
static_assert(ModelContext<TrainContext>);

}  // namespace espalier
