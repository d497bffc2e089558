// The forward of a decoder: embedding, layers of attention and MLP beside a residual stream, final norm, head. A family
// says what each part is:
//   embed(context, config, weights, tokens), attention(context, config, layer, index, x), mlp(context, config, layer,
//   x), final_norm(context, config, weights, x); Weights have `embed`, `layers` and an optional `head`.
#pragma once

#include "models/context.h"

namespace espalier {

template <class Context, class Weights>
const typename Context::Matrix& head_of(const Weights& weights) {
  return weights.head ? *weights.head : weights.embed;
}

// What the final norm leaves of the wanted rows, [rows, d].
template <class Family, class Context>
typename Context::Tensor decoder_hidden(Context& context, const ModelConfig& config,
                                        const typename Family::template Weights<Context>& weights,
                                        const typename Context::Tokens& tokens) {
  auto x = Family::embed(context, config, weights, tokens);  // [R, d]
  for (size_t l = 0; l < weights.layers.size(); ++l) {
    const auto& layer = weights.layers[l];
    x = context.layer(x, [&](const auto& input) {
      const auto y = context.add(input, Family::attention(context, config, layer, static_cast<int64_t>(l), input));
      return context.add(y, Family::mlp(context, config, layer, y));
    });
  }
  return Family::final_norm(context, config, weights, context.output_rows(x));
}

// Logits of the wanted rows, [rows, V].
template <class Family, class Context>
typename Context::Tensor decoder_logits(Context& context, const ModelConfig& config,
                                        const typename Family::template Weights<Context>& weights,
                                        const typename Context::Tokens& tokens) {
  const auto h = decoder_hidden<Family>(context, config, weights, tokens);
  return context.project(h, std::array{&head_of<Context>(weights)})[0];
}

}  // namespace espalier
