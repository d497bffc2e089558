// GPT-2 (Radford et al. 2019): pre-norm with LayerNorm, learned positions, biases, a two-layer MLP. Its
// linear layers are named as src/checkpoint/gpt2_files.cpp presents them.
#pragma once

#include "models/forward.h"

namespace espalier {

template <class Context>
struct Gpt2Layer {
  typename Context::Vector norm_1, norm_1_bias, norm_2, norm_2_bias;  // [d]
  typename Context::Matrix q, k, v, o;                                // [d, d] each
  typename Context::Matrix up, down;                                  // [F, d], [d, F]
};

template <class Context>
struct Gpt2Weights {
  typename Context::Matrix embed, positions;  // [V, d], [max positions, d]
  std::vector<Gpt2Layer<Context>> layers;
  typename Context::Vector norm, norm_bias;      // [d]
  std::optional<typename Context::Matrix> head;  // [V, d]; empty: tied to embed
};

struct Gpt2 : FamilyParts {
  static constexpr std::string_view kName = "gpt2";

  template <class Context>
  using Weights = Gpt2Weights<Context>;

  template <class Context, class Loader>
  static Gpt2Weights<Context> load(Loader& loader, const ModelConfig& config) {
    const int64_t d = config.hidden_size;
    Gpt2Weights<Context> weights;
    weights.embed = loader.matrix("transformer.wte", config.vocab_size, d);
    weights.positions = loader.matrix("transformer.wpe", config.max_position_embeddings, d);
    for (int64_t l = 0; l < config.num_hidden_layers; ++l) {
      Gpt2Layer<Context>& layer = weights.layers.emplace_back();
      layer.norm_1 = loader.vector(prefix(l) + "ln_1.weight", d);
      layer.norm_1_bias = loader.vector(prefix(l) + "ln_1.bias", d);
      layer.norm_2 = loader.vector(prefix(l) + "ln_2.weight", d);
      layer.norm_2_bias = loader.vector(prefix(l) + "ln_2.bias", d);
      load_matrices<Gpt2>(loader, config, l, layer);
    }
    weights.norm = loader.vector("transformer.ln_f.weight", d);
    weights.norm_bias = loader.vector("transformer.ln_f.bias", d);
    if (!config.tie_word_embeddings) weights.head = loader.matrix("lm_head", config.vocab_size, d);
    return weights;
  }

  template <class Layer, class Body>
  static void each_matrix(Layer& layer, const ModelConfig& config, int64_t index, Body&& body) {
    const int64_t d = config.hidden_size, mlp = config.intermediate_size;
    for (auto [matrix, name] :
         {std::pair(&layer.q, "q_proj"), {&layer.k, "k_proj"}, {&layer.v, "v_proj"}, {&layer.o, "o_proj"}}) {
      body(*matrix, LinearLayer{prefix(index) + "attn." + name, d, d, true});
    }
    body(layer.up, LinearLayer{prefix(index) + "mlp.up_proj", mlp, d, true, true});
    body(layer.down, LinearLayer{prefix(index) + "mlp.down_proj", d, mlp, true, true});
  }

  template <class Context>
  static typename Context::Tensor embed(Context& context, const ModelConfig&, const Gpt2Weights<Context>& weights,
                                        const typename Context::Tokens& tokens) {
    return context.add_positions(context.embed(weights.embed, tokens), weights.positions);  // [R, d]
  }

  // norm -> MLP: what is added to the residual stream.
  template <class Context>
  static typename Context::Tensor mlp(Context& context, const ModelConfig& config, const Gpt2Layer<Context>& layer,
                                      const typename Context::Tensor& x) {
    const auto h = context.layer_norm(x, layer.norm_2, layer.norm_2_bias, config.norm_eps);
    const auto up = context.project(h, std::array{&layer.up})[0];  // [R, F]
    return context.project(context.activate(config.activation, up), std::array{&layer.down})[0];
  }

  template <class Context>
  static typename Context::Tensor final_norm(Context& context, const ModelConfig& config,
                                             const Gpt2Weights<Context>& weights, const typename Context::Tensor& x) {
    return context.layer_norm(x, weights.norm, weights.norm_bias, config.norm_eps);
  }

  // What attend() takes: the normed rows, q, k and v, [R, d] each.
  template <class Context>
  static std::array<typename Context::Tensor, 4> projections(Context& context, const ModelConfig& config, int64_t,
                                                             const Gpt2Layer<Context>& layer,
                                                             const typename Context::Tensor& x) {
    const auto h = context.layer_norm(x, layer.norm_1, layer.norm_1_bias, config.norm_eps);
    const auto [q, k, v] = context.project(h, std::array{&layer.q, &layer.k, &layer.v});
    return {h, q, k, v};
  }

 private:
  static std::string prefix(int64_t layer) { return "transformer.h." + std::to_string(layer) + "."; }
};

}  // namespace espalier
