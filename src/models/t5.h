// T5 (Raffel et al. 2020): encoder and decoder, pre-norm with RMSNorm, no biases in linear layers, scores without a
// scale but with a learned relative bias. Version 1.0 has a two-layer MLP, 1.1 a gated one. The decoder sees the
// encoder's last states through cross-attention, whose keys and values are made once for each source.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "models/forward.h"
#include "models/relative_bias.h"

namespace espalier {

template <class Context>
struct T5Layer {
  typename Context::Vector attention_norm, cross_norm, mlp_norm;  // [d]
  typename Context::Matrix q, k, v, o;                            // [H*D, d] x 3, [d, H*D]
  typename Context::Matrix cross_q, cross_k, cross_v, cross_o;    // the same, of the decoder
  typename Context::Vector bias;                                  // [H * (2 reach + 1)], see models/relative_bias.h
  std::optional<typename Context::Matrix> gate;                   // [F, d]
  typename Context::Matrix up, down;                              // [F, d], [d, F]
};

template <class Context>
struct T5Weights {
  typename Context::Matrix embed;  // [V, d], encoder's and decoder's
  std::vector<T5Layer<Context>> layers;
  typename Context::Vector norm;                 // [d]
  std::optional<typename Context::Matrix> head;  // [V, d]; empty: tied to embed. Where the files hold one it counts,
                                                 // whatever their flag says: transformers writes both.
};

template <bool kDecoder>
struct T5Stack : FamilyParts {
  static constexpr bool kHasSource = kDecoder;
  template <class Context>
  using Weights = T5Weights<Context>;

  template <class Context, class Loader>
  static T5Weights<Context> load(Loader& loader, const ModelConfig& config) {
    const int64_t d = config.hidden_size;
    T5Weights<Context> weights;
    weights.embed = loader.matrix("shared", config.vocab_size, d);
    const auto bias = loader.relative_bias(part(0, 0) + "SelfAttention.relative_attention_bias.weight", config);
    for (int64_t l = 0; l < config.num_hidden_layers; ++l) {
      T5Layer<Context>& layer = weights.layers.emplace_back();
      layer.attention_norm = loader.vector(part(l, 0) + "layer_norm.weight", d);
      if (kDecoder) layer.cross_norm = loader.vector(part(l, 1) + "layer_norm.weight", d);
      layer.mlp_norm = loader.vector(part(l, kMlp) + "layer_norm.weight", d);
      layer.bias = bias;
      if (config.gated_mlp) layer.gate.emplace();
      load_matrices<T5Stack>(loader, config, l, layer);
    }
    weights.norm = loader.vector(kStack + ".final_layer_norm.weight", d);
    if (kDecoder && loader.has("lm_head.weight")) weights.head = loader.matrix("lm_head", config.vocab_size, d);
    return weights;
  }

  template <class Layer, class Body>
  static void each_matrix(Layer& layer, const ModelConfig& config, int64_t index, Body&& body) {
    const int64_t d = config.hidden_size, mlp = config.intermediate_size;
    const int64_t inner = config.num_attention_heads * config.head_dim;
    const auto attention = [&](const std::string& name, auto& q, auto& k, auto& v, auto& o) {
      body(q, LinearLayer{name + ".q", inner, d});
      body(k, LinearLayer{name + ".k", inner, d});
      body(v, LinearLayer{name + ".v", inner, d});
      body(o, LinearLayer{name + ".o", d, inner});
    };
    attention(part(index, 0) + "SelfAttention", layer.q, layer.k, layer.v, layer.o);
    if (kDecoder) {
      attention(part(index, 1) + "EncDecAttention", layer.cross_q, layer.cross_k, layer.cross_v, layer.cross_o);
    }
    const std::string dense = part(index, kMlp) + "DenseReluDense.";
    if (layer.gate) body(*layer.gate, LinearLayer{dense + "wi_0", mlp, d, false, true});
    body(layer.up, LinearLayer{dense + (layer.gate ? "wi_1" : "wi"), mlp, d, false, true});
    body(layer.down, LinearLayer{dense + "wo", d, mlp, false, true});
  }

  template <class Context>
  static typename Context::Tensor embed(Context& context, const ModelConfig&, const T5Weights<Context>& weights,
                                        const typename Context::Tokens& tokens) {
    return context.embed(weights.embed, tokens);  // [R, d]
  }

  // norm -> q -> attention over the source -> output projection.
  template <class Context>
  requires kDecoder static typename Context::Tensor cross(Context& context, const ModelConfig& config,
                                                          const T5Layer<Context>& layer, int64_t index,
                                                          const typename Context::Tensor& x) {
    const auto h = context.rms_norm(x, layer.cross_norm, config.norm_eps);
    const auto q = context.project(h, std::array{&layer.cross_q})[0];                  // [R, H*D]
    const auto mixed = context.attend_source(index, q, layer.cross_k, layer.cross_v);  // [R, H*D]
    return context.project(mixed, std::array{&layer.cross_o})[0];
  }

  template <class Context>
  static typename Context::Tensor mlp(Context& context, const ModelConfig& config, const T5Layer<Context>& layer,
                                      const typename Context::Tensor& x) {
    const auto h = context.rms_norm(x, layer.mlp_norm, config.norm_eps);
    if (layer.gate) {
      const auto [gate, up] = context.project(h, std::array{&*layer.gate, &layer.up});  // [R, F]
      return context.project(context.gated(config.activation, gate, up), std::array{&layer.down})[0];
    }
    const auto up = context.project(h, std::array{&layer.up})[0];
    return context.project(context.activate(config.activation, up), std::array{&layer.down})[0];
  }

  // Logits of a tied head are taken from states scaled by 1 / sqrt(d).
  template <class Context>
  static typename Context::Tensor final_norm(Context& context, const ModelConfig& config,
                                             const T5Weights<Context>& weights, const typename Context::Tensor& x) {
    const auto h = context.rms_norm(x, weights.norm, config.norm_eps);
    if (!kDecoder || config.logit_scale == 1.0) return h;
    return context.scale(h, config.logit_scale);
  }

  // What attend() takes: the normed rows [R, d], q, k and v [R, H*D].
  template <class Context>
  static std::array<typename Context::Tensor, 4> projections(Context& context, const ModelConfig& config, int64_t,
                                                             const T5Layer<Context>& layer,
                                                             const typename Context::Tensor& x) {
    const auto h = context.rms_norm(x, layer.attention_norm, config.norm_eps);
    const auto [q, k, v] = context.project(h, std::array{&layer.q, &layer.k, &layer.v});
    return {h, q, k, v};
  }

 private:
  static constexpr int kMlp = kDecoder ? 2 : 1;
  inline static const std::string kStack = kDecoder ? "decoder" : "encoder";
  static std::string part(int64_t layer, int index) {
    return kStack + ".block." + std::to_string(layer) + ".layer." + std::to_string(index) + ".";
  }
};

struct T5 {
  static constexpr std::string_view kName = "t5";

  using Encoder = T5Stack<false>;
  using Decoder = T5Stack<true>;

  // The encoder's own shape: as many heads, its own layers and attention, over all rows.
  static ModelConfig encoder_config(const ModelConfig& config) {
    ModelConfig encoder = config;
    encoder.num_hidden_layers = config.encoder_layers;
    encoder.encoder_layers = 0;
    encoder.bidirectional = true;
    encoder.stack = "encoder.";
    encoder.attention_trained = config.encoder_attention_trained;
    encoder.attention.assign(static_cast<size_t>(encoder.num_hidden_layers), config.encoder_attention);
    return encoder;
  }
};

}  // namespace espalier
