// The LLaMA family (Touvron et al. 2023): pre-norm with RMSNorm, rotary positions, grouped-query attention, gated MLP.
#pragma once

#include "models/forward.h"

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

struct Llama : FamilyParts {
  static constexpr std::string_view kName = "llama";

  template <class Context>
  using Weights = LlamaWeights<Context>;

  template <class Context, class Loader>
  static LlamaWeights<Context> load(Loader& loader, const ModelConfig& config) {
    const int64_t d = config.hidden_size;
    LlamaWeights<Context> weights;
    weights.embed = loader.matrix("model.embed_tokens", config.vocab_size, d);
    for (int64_t l = 0; l < config.num_hidden_layers; ++l) {
      LlamaLayer<Context>& layer = weights.layers.emplace_back();
      layer.attention_norm = loader.vector(prefix(l) + "input_layernorm.weight", d);
      layer.mlp_norm = loader.vector(prefix(l) + "post_attention_layernorm.weight", d);
      load_matrices<Llama>(loader, config, l, layer);
    }
    weights.norm = loader.vector("model.norm.weight", d);
    if (!config.tie_word_embeddings) weights.head = loader.matrix("lm_head", config.vocab_size, d);
    return weights;
  }

  template <class Layer, class Body>
  static void each_matrix(Layer& layer, const ModelConfig& config, int64_t index, Body&& body) {
    const int64_t d = config.hidden_size, mlp = config.intermediate_size;
    const int64_t q_size = config.num_attention_heads * config.head_dim;
    const int64_t kv_size = config.num_key_value_heads * config.head_dim;
    const std::string attention = prefix(index) + "self_attn.";
    body(layer.q, LinearLayer{attention + "q_proj", q_size, d, config.attention_bias});
    body(layer.k, LinearLayer{attention + "k_proj", kv_size, d, config.attention_bias});
    body(layer.v, LinearLayer{attention + "v_proj", kv_size, d, config.attention_bias});
    body(layer.o, LinearLayer{attention + "o_proj", d, q_size, config.attention_bias});
    body(layer.gate, LinearLayer{prefix(index) + "mlp.gate_proj", mlp, d, config.mlp_bias, true});
    body(layer.up, LinearLayer{prefix(index) + "mlp.up_proj", mlp, d, config.mlp_bias, true});
    body(layer.down, LinearLayer{prefix(index) + "mlp.down_proj", d, mlp, config.mlp_bias, true});
  }

  template <class Context>
  static typename Context::Tensor embed(Context& context, const ModelConfig&, const LlamaWeights<Context>& weights,
                                        const typename Context::Tokens& tokens) {
    return context.embed(weights.embed, tokens);  // [R, d]
  }

  // norm -> gated MLP: what is added to the residual stream.
  template <class Context>
  static typename Context::Tensor mlp(Context& context, const ModelConfig& config, const LlamaLayer<Context>& layer,
                                      const typename Context::Tensor& x) {
    const auto h = context.rms_norm(x, layer.mlp_norm, config.norm_eps);
    const auto [gate, up] = context.project(h, std::array{&layer.gate, &layer.up});  // [R, F]
    return context.project(context.gated(config.activation, gate, up), std::array{&layer.down})[0];
  }

  template <class Context>
  static typename Context::Tensor final_norm(Context& context, const ModelConfig& config,
                                             const LlamaWeights<Context>& weights, const typename Context::Tensor& x) {
    return context.rms_norm(x, weights.norm, config.norm_eps);
  }

  // What attend() takes: the normed rows [R, d], q [R, H*D], k and v [R, Hk*D].
  template <class Context>
  static std::array<typename Context::Tensor, 4> projections(Context& context, const ModelConfig& config, int64_t,
                                                             const LlamaLayer<Context>& layer,
                                                             const typename Context::Tensor& x) {
    const auto h = context.rms_norm(x, layer.attention_norm, config.norm_eps);
    const auto [q, k, v] = context.project(h, std::array{&layer.q, &layer.k, &layer.v});
    return {h, context.rotate(q, config.num_attention_heads, config.head_dim),
            context.rotate(k, config.num_key_value_heads, config.head_dim), v};
  }

 private:
  static std::string prefix(int64_t layer) { return "model.layers." + std::to_string(layer) + "."; }
};

}  // namespace espalier
