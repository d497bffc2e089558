#include "training/train_context.h"

#include <ATen/ATen.h>

#include <cmath>

#include "models/context.h"
#include "models/rotary.h"
#include "training/train_operators.h"

namespace espalier {

TrainContext::TrainContext(const ModelConfig& config, const std::vector<TrainAttention>& attention, int64_t batch,
                           int64_t tokens)
    : config_(config), attention_(attention), batch_(batch), tokens_(tokens) {
  if (config.rotary_dim == 0) return;
  const int64_t half = config.rotary_dim / 2;
  std::vector<double> frequency = rotary_frequencies(config);
  const at::Tensor angle =
      at::arange(tokens, at::kDouble).unsqueeze(1) * at::from_blob(frequency.data(), {half}, at::kDouble);
  cosine_ = angle.cos().to(at::kFloat).view({tokens, 1, half});
  sine_ = angle.sin().to(at::kFloat).view({tokens, 1, half});
}

at::Tensor TrainContext::embed(const TrainMatrix& table, const at::Tensor& tokens) const {
  return table.weight.index_select(0, tokens.reshape(-1));
}

at::Tensor TrainContext::add_positions(const at::Tensor& x, const TrainMatrix& table) const {
  return (x.view({batch_, tokens_, -1}) + table.weight.narrow(0, 0, tokens_)).view({batch_ * tokens_, -1});
}

at::Tensor TrainContext::add_token_types(const at::Tensor& x, const TrainMatrix& table) const {
  return x + (token_types_.defined() ? table.weight.index_select(0, token_types_.reshape(-1))
                                     : table.weight.narrow(0, 0, 1));
}

at::Tensor TrainContext::layer_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                                    double eps) const {
  return at::layer_norm(x, weight.sizes(), weight, bias, eps);
}

at::Tensor TrainContext::rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) const {
  return espalier::rms_norm(x, weight, eps);
}

at::Tensor TrainContext::multiply(const at::Tensor& x, const TrainMatrix& matrix) {
  if (!matrix.lora_a.defined()) return at::linear(x, matrix.weight, matrix.bias);
  const at::Tensor y = lora_linear(x, matrix.weight, matrix.lora_a, matrix.lora_b, matrix.lora_scale);
  return matrix.bias.defined() ? y + matrix.bias : y;
}

at::Tensor TrainContext::rotate(const at::Tensor& x, int64_t heads, int64_t head_dim) const {
  const int64_t half = config_.rotary_dim / 2;
  const at::Tensor rows = x.view({batch_, tokens_, heads, head_dim});
  const at::Tensor a = rows.narrow(3, 0, half), b = rows.narrow(3, half, half);
  const at::Tensor rest = rows.narrow(3, 2 * half, head_dim - 2 * half);
  return at::cat({a * cosine_ - b * sine_, b * cosine_ + a * sine_, rest}, 3)
      .view({batch_ * tokens_, heads * head_dim});
}

at::Tensor TrainContext::scale_norm(const at::Tensor& x, const at::Tensor& factor, double eps) const {
  return x / x.square().mean(-1, true).sqrt().clamp_min(eps) * factor;
}

at::Tensor TrainContext::add_sinusoids(const at::Tensor& x, const at::Tensor& factor) const {
  std::vector<double> frequency = sinusoid_frequencies(x.size(1));
  const at::Tensor angle =
      at::arange(tokens_, at::kDouble).unsqueeze(1) * at::from_blob(frequency.data(), {x.size(1) / 2}, at::kDouble);
  const at::Tensor waves = at::cat({angle.sin(), angle.cos()}, 1).to(at::kFloat);  // [T, d]
  return (x.view({batch_, tokens_, -1}) + waves * factor).view({batch_ * tokens_, -1});
}

at::Tensor TrainContext::scale_shift(const at::Tensor& x, const at::Tensor& scale, const at::Tensor& shift) const {
  const int64_t parts = scale.size(0) / x.size(1);
  return (x.unsqueeze(1) * scale.view({parts, -1}) + shift.view({parts, -1})).view({x.size(0), -1});
}

at::Tensor TrainContext::shift_tokens(int64_t, const at::Tensor& x) const {
  const int64_t shifted = shifted_channels(x.size(1)), d = x.size(1);
  const at::Tensor rows = x.view({batch_, tokens_, d});
  const at::Tensor before = at::constant_pad_nd(rows.narrow(2, 0, shifted).narrow(1, 0, tokens_ - 1), {0, 0, 1, 0});
  return at::cat({before, rows.narrow(2, shifted, d - shifted)}, 2).view({batch_ * tokens_, d});
}

at::Tensor TrainContext::split_heads(const at::Tensor& x, int64_t heads) const {
  return x.view({batch_, tokens_, heads, -1}).transpose(1, 2);
}

at::Tensor TrainContext::attend(int64_t layer, const at::Tensor& hidden, const at::Tensor& q, const at::Tensor& k,
                                const at::Tensor& v, const at::Tensor* bias) const {
  const TrainAttention& attention = attention_[static_cast<size_t>(layer)];
  TrainRows rows = rows_of(hidden, q, k, v);
  if (bias) rows.bias = bias->view({config_.num_attention_heads, -1});
  rows.span = config_.bidirectional;
  const at::Tensor out = attention.mechanism->parallel(rows, attention.parameters);  // [B, H, T, D]
  return out.transpose(1, 2).reshape({batch_ * tokens_, -1});
}

at::Tensor TrainContext::attend_source(int64_t, const at::Tensor& q, const TrainMatrix& k, const TrainMatrix& v) const {
  const auto heads_of = [&](const TrainMatrix& matrix) {  // [B, H, S, D]
    return multiply(source_, matrix).view({batch_, source_.size(1), config_.num_attention_heads, -1}).transpose(1, 2);
  };
  const double scale =
      config_.attention_scale != 0 ? config_.attention_scale : 1.0 / std::sqrt(static_cast<double>(config_.head_dim));
  const at::Tensor out = at::scaled_dot_product_attention(split_heads(q, config_.num_attention_heads), heads_of(k),
                                                          heads_of(v), {}, 0.0, /*is_causal=*/false, scale);
  return out.transpose(1, 2).reshape({batch_ * tokens_, -1});
}

TrainRows TrainContext::rows_of(const at::Tensor& hidden, const at::Tensor& q, const at::Tensor& k,
                                const at::Tensor& v) const {
  return {split_heads(q, config_.num_attention_heads), split_heads(k, config_.num_key_value_heads),
          split_heads(v, config_.num_key_value_heads), hidden.view({batch_, tokens_, -1})};
}

at::Tensor TrainContext::activate(Activation f, const at::Tensor& x) const {
  switch (f) {
    case Activation::kSilu:
      return at::silu(x);
    case Activation::kGelu:
      return at::gelu(x);
    case Activation::kGeluTanh:
      return at::gelu(x, "tanh");
    case Activation::kRelu:
      return at::relu(x);
    case Activation::kReluSquared:
      return at::relu(x).square();
    case Activation::kTanh:
      return at::tanh(x);
    case Activation::kSigmoid:
      return at::sigmoid(x);
    case Activation::kSoftplus:
      return at::softplus(x);
    case Activation::kLaplace:
      return 0.5 * at::erfc((std::sqrt(0.5) - x) * std::sqrt(2.0 * M_PI));
  }
  return x;
}

at::Tensor TrainContext::gated(Activation f, const at::Tensor& gate, const at::Tensor& up) const {
  return f == Activation::kSilu ? gated_silu(gate, up) : activate(f, gate) * up;
}

}  // namespace espalier
