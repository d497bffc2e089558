// The forward of all families: embedding, layers of attention and MLP beside a residual stream, final norm, head. A
// family says what each part is:
//   embed(context, config, weights, tokens), projections(context, config, index, layer, x): what attend() takes,
//   mlp(context, config, layer, x), final_norm(context, config, weights, x); Weights have `embed`, `layers` and an
//   optional `head`, a layer the output projection `o` and, with a relative bias, `bias`.
// and, where it differs:
//   no mlp()                                            layers of attention alone
//   gated(context, layer, h, attended)                  between attention and output projection
//   norm_after(context, config, layer, part, x)         after each residual sum (post-norm)
//   cross(context, config, layer, index, x)             attention over a source, between the two parts
//   output(context, config, weights, hidden, what)      instead of a linear head
//   gives(weights, what)                                whether it has that output
#pragma once

#include "models/context.h"

namespace espalier {

enum class Part { kAttention, kMlp };

template <class Context, class Weights>
const typename Context::Matrix& head_of(const Weights& weights) {
  return weights.head ? *weights.head : weights.embed;
}

// Projections -> attention -> output projection, [R, d]: what is added to the residual stream.
template <class Family, class Context, class Layer>
typename Context::Tensor attention_part(Context& context, const ModelConfig& config, const Layer& layer, int64_t index,
                                        const typename Context::Tensor& x) {
  const std::array rows = Family::projections(context, config, index, layer, x);  // h, q, k, v
  const typename Context::Vector* bias = nullptr;
  if constexpr (requires { layer.bias; }) bias = &layer.bias;
  auto mixed = context.attend(index, rows[0], rows[1], rows[2], rows[3], bias);
  if constexpr (requires { Family::gated(context, layer, rows[0], mixed); }) {
    mixed = Family::gated(context, layer, rows[0], mixed);
  }
  return context.project(mixed, std::array{&layer.o})[0];
}

// The residual stream after a part of a layer, [R, d].
template <class Family, class Context, class Layer>
typename Context::Tensor add_part(Context& context, const ModelConfig& config, const Layer& layer, Part part,
                                  const typename Context::Tensor& x, const typename Context::Tensor& added) {
  const auto sum = context.add(x, added);
  if constexpr (requires { Family::norm_after(context, config, layer, part, sum); }) {
    return Family::norm_after(context, config, layer, part, sum);
  } else {
    return sum;
  }
}

// What a layer gives, [R, d], of its input and its attention_part().
template <class Family, class Context, class Layer>
typename Context::Tensor rest_of_layer(Context& context, const ModelConfig& config, const Layer& layer, int64_t index,
                                       const typename Context::Tensor& x, const typename Context::Tensor& attention) {
  auto y = add_part<Family>(context, config, layer, Part::kAttention, x, attention);
  if constexpr (requires { Family::cross(context, config, layer, index, y); }) {
    y = context.add(y, Family::cross(context, config, layer, index, y));
  }
  if constexpr (requires { Family::mlp(context, config, layer, y); }) {
    y = add_part<Family>(context, config, layer, Part::kMlp, y, Family::mlp(context, config, layer, y));
  }
  return y;
}

// What the final norm leaves of the wanted rows, [rows, d].
template <class Family, class Context>
typename Context::Tensor forward_hidden(Context& context, const ModelConfig& config,
                                        const typename Family::template Weights<Context>& weights,
                                        const typename Context::Tokens& tokens) {
  auto x = Family::embed(context, config, weights, tokens);  // [R, d]
  for (size_t l = 0; l < weights.layers.size(); ++l) {
    const auto& layer = weights.layers[l];
    x = context.layer(x, [&](const auto& input) {
      const auto index = static_cast<int64_t>(l);
      return rest_of_layer<Family>(context, config, layer, index, input,
                                   attention_part<Family>(context, config, layer, index, input));
    });
  }
  return Family::final_norm(context, config, weights, context.output_rows(x));
}

// Whether a family's model has an output.
template <class Family, class Context>
bool family_gives(const typename Family::template Weights<Context>& weights, Output what) {
  if constexpr (requires { Family::gives(weights, what); }) {
    return Family::gives(weights, what);
  } else {
    return what == Output::kLogits || what == Output::kHidden;
  }
}

// What is asked for of forward_hidden()'s rows; the model must have it.
template <class Family, class Context>
typename Context::Tensor output_of(Context& context, const ModelConfig& config,
                                   const typename Family::template Weights<Context>& weights,
                                   const typename Context::Tensor& hidden, Output what) {
  if (what == Output::kHidden) return hidden;
  if constexpr (requires { Family::output(context, config, weights, hidden, what); }) {
    return Family::output(context, config, weights, hidden, what);
  } else {
    return context.project(hidden, std::array{&head_of<Context>(weights)})[0];
  }
}

}  // namespace espalier
