// BERT (Devlin et al. 2019): an encoder, all rows see each other. Post-norm with LayerNorm, learned positions, token
// types; heads for masked words, for the whole text (pooler) and for classes. Names as src/checkpoint/bert_files.cpp
// presents them.
#pragma once

#include "models/forward.h"

namespace espalier {

template <class Context>
struct BertLayer {
  typename Context::Matrix q, k, v, o;                                                    // [d, d] each
  typename Context::Vector attention_norm, attention_norm_bias, mlp_norm, mlp_norm_bias;  // [d]
  typename Context::Matrix up, down;                                                      // [F, d], [d, F]
};

template <class Context>
struct BertWeights {
  using Matrix = typename Context::Matrix;
  using Vector = typename Context::Vector;

  Matrix embed, positions, token_types;  // [V, d], [max positions, d], [types, d]
  Vector norm, norm_bias;                // [d]
  std::vector<BertLayer<Context>> layers;
  // Masked words: transform, norm, then `head`, or the embedding where tied.
  struct WordHead {
    Matrix transform;              // [d, d]
    Vector norm, norm_bias, bias;  // [d] x 2, [V]
  };
  std::optional<WordHead> words;
  std::optional<Matrix> head;    // [V, d]
  std::optional<Matrix> pooler;  // [d, d]
  std::optional<Matrix> labels;  // [labels, d]
};

struct Bert : FamilyParts {
  static constexpr std::string_view kName = "bert";
  static constexpr bool kLinearHead = false;

  template <class Context>
  using Weights = BertWeights<Context>;

  template <class Context, class Loader>
  static BertWeights<Context> load(Loader& loader, const ModelConfig& config) {
    const int64_t d = config.hidden_size;
    BertWeights<Context> weights;
    weights.embed = loader.matrix("bert.embeddings.word_embeddings", config.vocab_size, d);
    weights.positions = loader.matrix("bert.embeddings.position_embeddings", config.max_position_embeddings, d);
    weights.token_types = loader.matrix("bert.embeddings.token_type_embeddings", config.token_types, d);
    weights.norm = loader.vector("bert.embeddings.LayerNorm.weight", d);
    weights.norm_bias = loader.vector("bert.embeddings.LayerNorm.bias", d);
    for (int64_t l = 0; l < config.num_hidden_layers; ++l) {
      BertLayer<Context>& layer = weights.layers.emplace_back();
      layer.attention_norm = loader.vector(prefix(l) + "attention.output.LayerNorm.weight", d);
      layer.attention_norm_bias = loader.vector(prefix(l) + "attention.output.LayerNorm.bias", d);
      layer.mlp_norm = loader.vector(prefix(l) + "output.LayerNorm.weight", d);
      layer.mlp_norm_bias = loader.vector(prefix(l) + "output.LayerNorm.bias", d);
      load_matrices<Bert>(loader, config, l, layer);
    }
    if (loader.has("cls.predictions.transform.dense.weight")) {
      const std::string words = "cls.predictions.";
      const bool own_bias = loader.has(words + "decoder.bias");  // where it is not tied to the other one
      weights.words = {.transform = loader.matrix(words + "transform.dense", d, d, true),
                       .norm = loader.vector(words + "transform.LayerNorm.weight", d),
                       .norm_bias = loader.vector(words + "transform.LayerNorm.bias", d),
                       .bias = loader.vector(words + (own_bias ? "decoder.bias" : "bias"), config.vocab_size)};
      if (!config.tie_word_embeddings) weights.head = loader.matrix(words + "decoder", config.vocab_size, d);
    }
    if (loader.has("bert.pooler.dense.weight")) weights.pooler = loader.matrix("bert.pooler.dense", d, d, true);
    if (config.labels > 0 && loader.has("classifier.weight"))
      weights.labels = loader.matrix("classifier", config.labels, d, true);
    return weights;
  }

  template <class Layer, class Body>
  static void each_matrix(Layer& layer, const ModelConfig& config, int64_t index, Body&& body) {
    const int64_t d = config.hidden_size, mlp = config.intermediate_size;
    const std::string attention = prefix(index) + "attention.";
    body(layer.q, LinearLayer{attention + "self.query", d, d, true});
    body(layer.k, LinearLayer{attention + "self.key", d, d, true});
    body(layer.v, LinearLayer{attention + "self.value", d, d, true});
    body(layer.o, LinearLayer{attention + "output.dense", d, d, true});
    body(layer.up, LinearLayer{prefix(index) + "intermediate.dense", mlp, d, true, true});
    body(layer.down, LinearLayer{prefix(index) + "output.dense", d, mlp, true, true});
  }

  template <class Context>
  static typename Context::Tensor embed(Context& context, const ModelConfig& config,
                                        const BertWeights<Context>& weights, const typename Context::Tokens& tokens) {
    auto x = context.add_positions(context.embed(weights.embed, tokens), weights.positions);  // [R, d]
    x = context.add_token_types(x, weights.token_types);
    return context.layer_norm(x, weights.norm, weights.norm_bias, config.norm_eps);
  }

  template <class Context>
  static typename Context::Tensor mlp(Context& context, const ModelConfig& config, const BertLayer<Context>& layer,
                                      const typename Context::Tensor& x) {
    const auto up = context.project(x, std::array{&layer.up})[0];  // [R, F]
    return context.project(context.activate(config.activation, up), std::array{&layer.down})[0];
  }

  template <class Context>
  static typename Context::Tensor norm_after(Context& context, const ModelConfig& config,
                                             const BertLayer<Context>& layer, Part part,
                                             const typename Context::Tensor& x) {
    return part == Part::kAttention
               ? context.layer_norm(x, layer.attention_norm, layer.attention_norm_bias, config.norm_eps)
               : context.layer_norm(x, layer.mlp_norm, layer.mlp_norm_bias, config.norm_eps);
  }

  template <class Context>
  static typename Context::Tensor final_norm(Context&, const ModelConfig&, const BertWeights<Context>&,
                                             const typename Context::Tensor& x) {
    return x;
  }

  template <class Context>
  static bool gives(const BertWeights<Context>& weights, Output what) {
    switch (what) {
      case Output::kLogits:
        return weights.words.has_value();
      case Output::kPooled:
        return weights.pooler.has_value();
      case Output::kLabels:
        return weights.pooler && weights.labels;
      default:
        return true;
    }
  }

  template <class Context>
  static typename Context::Tensor output(Context& context, const ModelConfig& config,
                                         const BertWeights<Context>& weights, const typename Context::Tensor& hidden,
                                         Output what) {
    if (what == Output::kLogits) {
      auto x = context.project(hidden, std::array{&weights.words->transform})[0];
      x = context.layer_norm(context.activate(config.activation, x), weights.words->norm, weights.words->norm_bias,
                             config.norm_eps);
      return context.add_vector(context.project(x, std::array{&head_of<Context>(weights)})[0], weights.words->bias);
    }
    const auto pooled = context.activate(Activation::kTanh, context.project(hidden, std::array{&*weights.pooler})[0]);
    if (what == Output::kPooled) return pooled;
    return context.project(pooled, std::array{&*weights.labels})[0];
  }

  // What attend() takes: the rows, q, k and v, [R, d] each.
  template <class Context>
  static std::array<typename Context::Tensor, 4> projections(Context& context, const ModelConfig&, int64_t,
                                                             const BertLayer<Context>& layer,
                                                             const typename Context::Tensor& x) {
    const auto [q, k, v] = context.project(x, std::array{&layer.q, &layer.k, &layer.v});
    return {x, q, k, v};
  }

 private:
  static std::string prefix(int64_t layer) { return "bert.encoder.layer." + std::to_string(layer) + "."; }
};

}  // namespace espalier
