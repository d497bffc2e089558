// The LLaMA family (Touvron et al. 2023): pre-norm, rotary positions, grouped-query attention, SwiGLU.
//
// The forward is written once, over a Context: StepContext runs it on arena slices with packed weights,
// TrainContext on tensors with gradients. A Context provides
//   Tensor, Matrix (a linear layer's weight), Vector (a norm's weight), Tokens
//   embed(Matrix, Tokens)            [R] -> [R, d]
//   rms_norm(Tensor, Vector, eps)    [R, d] -> [R, d]
//   project(Tensor, {Matrix…})       [R, d] -> one [R, out] for each matrix, in one pass over the rows
//   rotate(Tensor, heads, head_dim)  rotary embedding, halves layout, at the rows' positions
//   attend(layer, h, q, k, v)        [R, d], [R, H*D], [R, Hk*D] x 2 -> [R, H*D]: the layer's mechanism; h is what q, k
//                                    and v were projected from
//   gated_silu(gate, up)             silu(gate) * up
//   add(Tensor, Tensor)              residual
//   layer(Tensor, body)              runs body(x) -> x; where a Context manages memory
//   output_rows(Tensor)              the rows whose logits are wanted
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/model_files.h"

namespace espalier {

template <class Context>
struct LlamaLayer {
  typename Context::Vector attention_norm, mlp_norm;  // [d]
  typename Context::Matrix q, k, v, o;                // [H*D, d], [Hk*D, d] x 2, [d, H*D]
  typename Context::Matrix gate, up, down;            // [F, d] x 2, [d, F]
};

template <class Context>
struct LlamaWeights {
  typename Context::Matrix embed;  // [V, d]
  std::vector<LlamaLayer<Context>> layers;
  typename Context::Vector norm;                 // [d]
  std::optional<typename Context::Matrix> head;  // [V, d]; empty: tied to embed
};

// Loader: matrix(name, outputs, inputs) -> Context::Matrix, vector(name, n) -> Context::Vector.
template <class Context, class Loader>
LlamaWeights<Context> load_llama(Loader& loader, const ModelConfig& config) {
  const int64_t d = config.hidden_size, mlp = config.intermediate_size;
  const int64_t q_size = config.num_attention_heads * config.head_dim;
  const int64_t kv_size = config.num_key_value_heads * config.head_dim;
  LlamaWeights<Context> weights;
  weights.embed = loader.matrix("model.embed_tokens.weight", config.vocab_size, d);
  for (int64_t l = 0; l < config.num_hidden_layers; ++l) {
    const std::string prefix = "model.layers." + std::to_string(l) + ".";
    LlamaLayer<Context>& layer = weights.layers.emplace_back();
    layer.attention_norm = loader.vector(prefix + "input_layernorm.weight", d);
    layer.q = loader.matrix(prefix + "self_attn.q_proj.weight", q_size, d);
    layer.k = loader.matrix(prefix + "self_attn.k_proj.weight", kv_size, d);
    layer.v = loader.matrix(prefix + "self_attn.v_proj.weight", kv_size, d);
    layer.o = loader.matrix(prefix + "self_attn.o_proj.weight", d, q_size);
    layer.mlp_norm = loader.vector(prefix + "post_attention_layernorm.weight", d);
    layer.gate = loader.matrix(prefix + "mlp.gate_proj.weight", mlp, d);
    layer.up = loader.matrix(prefix + "mlp.up_proj.weight", mlp, d);
    layer.down = loader.matrix(prefix + "mlp.down_proj.weight", d, mlp);
  }
  weights.norm = loader.vector("model.norm.weight", d);
  if (!config.tie_word_embeddings) weights.head = loader.matrix("lm_head.weight", config.vocab_size, d);
  return weights;
}

// norm -> q, k, v -> rotary -> attention -> output projection: what is added to the residual stream.
template <class Context>
typename Context::Tensor llama_attention(Context& context, const ModelConfig& config, const LlamaLayer<Context>& layer,
                                         int64_t index, const typename Context::Tensor& x) {
  const auto h = context.rms_norm(x, layer.attention_norm, config.rms_norm_eps);  // [R, d]
  auto [q, k, v] = context.project(h, std::array{&layer.q, &layer.k, &layer.v});  // [R, H*D], [R, Hk*D]
  q = context.rotate(q, config.num_attention_heads, config.head_dim);
  k = context.rotate(k, config.num_key_value_heads, config.head_dim);
  const auto mixed = context.attend(index, h, q, k, v);    // [R, H*D]
  return context.project(mixed, std::array{&layer.o})[0];  // [R, d]
}

// norm -> SwiGLU: what is added to the residual stream.
template <class Context>
typename Context::Tensor llama_mlp(Context& context, const ModelConfig& config, const LlamaLayer<Context>& layer,
                                   const typename Context::Tensor& x) {
  const auto h = context.rms_norm(x, layer.mlp_norm, config.rms_norm_eps);
  const auto [gate, up] = context.project(h, std::array{&layer.gate, &layer.up});    // [R, F]
  return context.project(context.gated_silu(gate, up), std::array{&layer.down})[0];  // [R, d]
}

// The final norm and the head over the wanted rows: logits [rows, V].
template <class Context>
typename Context::Tensor llama_head(Context& context, const ModelConfig& config, const LlamaWeights<Context>& weights,
                                    const typename Context::Tensor& x) {
  const auto h = context.rms_norm(context.output_rows(x), weights.norm, config.rms_norm_eps);
  return context.project(h, std::array{weights.head ? &*weights.head : &weights.embed})[0];
}

template <class Context>
typename Context::Tensor llama_forward(Context& context, const ModelConfig& config,
                                       const LlamaWeights<Context>& weights, const typename Context::Tokens& tokens) {
  auto x = context.embed(weights.embed, tokens);  // [R, d]
  for (size_t l = 0; l < weights.layers.size(); ++l) {
    const LlamaLayer<Context>& layer = weights.layers[l];
    x = context.layer(x, [&](const auto& input) {
      const auto y = context.add(input, llama_attention(context, config, layer, static_cast<int64_t>(l), input));
      return context.add(y, llama_mlp(context, config, layer, y));
    });
  }
  return llama_head(context, config, weights, x);
}

}  // namespace espalier
