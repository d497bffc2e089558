// FLASH (Hua et al. 2022, arXiv 2202.10447): layers of gated attention units, which mix tokens and channels in one. Of
// the layer's input, normed, come values and a gate of e channels and one shared z of s channels; z scaled and offset
// in four ways is two pairs of queries and keys (attention/gau/gau.h). Positions: rotary, sinusoids at the bottom and a
// relative bias. Names as src/checkpoint/flash_files.cpp presents them.
#pragma once

#include "models/forward.h"

namespace espalier {

template <class Context>
struct FlashLayer {
  typename Context::Vector norm, norm_bias;                     // [d] x 2, or of a ScaleNorm [1] and nothing
  typename Context::Matrix v, gate, z, o;                       // [e, d] x 2, [s, d], [d, e]
  typename Context::Vector q_scale, q_shift, k_scale, k_shift;  // [2 s]: of both queries, of both keys
  typename Context::Vector bias;                                // [2 reach + 1], see models/relative_bias.h
};

template <class Context>
struct FlashWeights {
  typename Context::Matrix embed;      // [V, d]
  typename Context::Vector positions;  // [1] factor of the sinusoids
  std::vector<FlashLayer<Context>> layers;
  typename Context::Vector norm, norm_bias;      // [d]
  std::optional<typename Context::Matrix> head;  // [V, d]
};

struct Flash : FamilyParts {
  static constexpr std::string_view kName = "flash";
  static constexpr bool kHasMlp = false;

  template <class Context>
  using Weights = FlashWeights<Context>;

  template <class Context, class Loader>
  static FlashWeights<Context> load(Loader& loader, const ModelConfig& config) {
    const int64_t d = config.hidden_size, roles = config.head_dim;
    FlashWeights<Context> weights;
    weights.embed = loader.matrix("token_emb", config.vocab_size, d);
    weights.positions = loader.vector("abs_pos_emb.scale", 1);
    for (int64_t l = 0; l < config.num_hidden_layers; ++l) {
      FlashLayer<Context>& layer = weights.layers.emplace_back();
      layer.norm = loader.vector(prefix(l) + (config.scale_norm ? "norm.g" : "norm.weight"), config.scale_norm ? 1 : d);
      if (!config.scale_norm) layer.norm_bias = loader.vector(prefix(l) + "norm.bias", d);
      layer.q_scale = loader.vector(prefix(l) + "q_scale", roles);
      layer.q_shift = loader.vector(prefix(l) + "q_shift", roles);
      layer.k_scale = loader.vector(prefix(l) + "k_scale", roles);
      layer.k_shift = loader.vector(prefix(l) + "k_shift", roles);
      layer.bias = loader.relative_bias(prefix(l) + "rel_pos_bias.relative_attention_bias.weight", config);
      load_matrices<Flash>(loader, config, l, layer);
    }
    weights.norm = loader.vector("to_logits.0.weight", d);
    weights.norm_bias = loader.vector("to_logits.0.bias", d);
    weights.head = loader.matrix("to_logits.1", config.vocab_size, d, true);
    return weights;
  }

  template <class Layer, class Body>
  static void each_matrix(Layer& layer, const ModelConfig& config, int64_t index, Body&& body) {
    const int64_t d = config.hidden_size, e = config.value_dim;
    body(layer.v, LinearLayer{prefix(index) + "v_proj", e, d, true});
    body(layer.gate, LinearLayer{prefix(index) + "gate_proj", e, d, true});
    body(layer.z, LinearLayer{prefix(index) + "qk_proj", config.head_dim / 2, d, true});
    body(layer.o, LinearLayer{prefix(index) + "to_out", d, e, true});
  }

  template <class Context>
  static typename Context::Tensor embed(Context& context, const ModelConfig&, const FlashWeights<Context>& weights,
                                        const typename Context::Tokens& tokens) {
    return context.add_sinusoids(context.embed(weights.embed, tokens), weights.positions);  // [R, d]
  }

  // What attend() takes: the normed and shifted rows [R, d], q and k [R, 2 s], v [R, e].
  template <class Context>
  static std::array<typename Context::Tensor, 4> projections(Context& context, const ModelConfig& config, int64_t index,
                                                             const FlashLayer<Context>& layer,
                                                             const typename Context::Tensor& x) {
    auto h = config.scale_norm ? context.scale_norm(x, layer.norm, config.norm_eps)
                               : context.layer_norm(x, layer.norm, layer.norm_bias, config.norm_eps);
    if (config.token_shift) h = context.shift_tokens(index, h);
    const auto [values, shared] = context.project(h, std::array{&layer.v, &layer.z});
    const auto v = context.activate(Activation::kSilu, values), z = context.activate(Activation::kSilu, shared);
    const int64_t s = config.head_dim / 2;
    return {h, context.rotate(context.scale_shift(z, layer.q_scale, layer.q_shift), 2, s),
            context.rotate(context.scale_shift(z, layer.k_scale, layer.k_shift), 2, s), v};
  }

  // What goes into the output projection: attended rows by the gate, [R, e].
  template <class Context>
  static typename Context::Tensor gated(Context& context, const FlashLayer<Context>& layer,
                                        const typename Context::Tensor& h, const typename Context::Tensor& attended) {
    return context.gated(Activation::kSilu, context.project(h, std::array{&layer.gate})[0], attended);
  }

  template <class Context>
  static typename Context::Tensor final_norm(Context& context, const ModelConfig&, const FlashWeights<Context>& weights,
                                             const typename Context::Tensor& x) {
    return context.layer_norm(x, weights.norm, weights.norm_bias, 1e-5);
  }

 private:
  static std::string prefix(int64_t layer) { return "layers." + std::to_string(layer) + "."; }
};

}  // namespace espalier
