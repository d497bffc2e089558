// The forward of all families: embedding, layers of attention and MLP beside a residual stream, final norm, head. A
// family is a struct that derives from FamilyParts and says what each part is:
//   embed(context, config, weights, tokens), projections(context, config, index, layer, x): what attend() takes,
//   mlp(context, config, layer, x), final_norm(context, config, weights, x); Weights have `embed`, `layers` and an
//   optional `head`, a layer the output projection `o` and, with a relative bias, `bias`.
// and, where it differs, a part of FamilyParts under the same name. It then hides the default: one whose parameters do
// not fit is no silent miss, it does not compile.
#pragma once

#include <concepts>

#include "models/context.h"

namespace espalier {

enum class Part { kAttention, kMlp };

template <class Context, class Weights>
const typename Context::Matrix& head_of(const Weights& weights) {
  return weights.head ? *weights.head : weights.embed;
}

// What most families have in common.
struct FamilyParts {
  static constexpr bool kHasMlp = true;      // else layers of attention alone
  static constexpr bool kHasSource = false;  // cross(context, config, layer, index, x): attention over a source between
                                             // the two parts
  static constexpr bool kLinearHead = true;  // logits are hidden states times a table

  // Between attention and output projection; h is what q, k and v were made of.
  template <class Context, class Layer>
  static typename Context::Tensor gated(Context&, const Layer&, const typename Context::Tensor& /*h*/,
                                        const typename Context::Tensor& attended) {
    return attended;
  }
  // After each residual sum (post-norm).
  template <class Context, class Layer>
  static typename Context::Tensor norm_after(Context&, const ModelConfig&, const Layer&, Part,
                                             const typename Context::Tensor& x) {
    return x;
  }
  // Whether a model has an output, and the output.
  template <class Weights>
  static bool gives(const Weights&, Output what) {
    return what == Output::kLogits || what == Output::kHidden;
  }
  template <class Context, class Weights>
  static typename Context::Tensor output(Context& context, const ModelConfig&, const Weights& weights,
                                         const typename Context::Tensor& hidden, Output) {
    return context.project(hidden, std::array{&head_of<Context>(weights)})[0];
  }
};

template <class F, class C>
concept FamilyFor = std::derived_from<F, FamilyParts> && ModelContext<C> &&
    requires(C& context, const ModelConfig& config, const typename F::template Weights<C>& weights,
             const typename C::Tokens& tokens, const typename C::Tensor& x, int64_t index) {
  { F::embed(context, config, weights, tokens) } -> std::same_as<typename C::Tensor>;
  { F::projections(context, config, index, weights.layers[0], x) } -> std::same_as<std::array<typename C::Tensor, 4>>;
  { F::gated(context, weights.layers[0], x, x) } -> std::same_as<typename C::Tensor>;
  { F::norm_after(context, config, weights.layers[0], Part::kMlp, x) } -> std::same_as<typename C::Tensor>;
  { F::final_norm(context, config, weights, x) } -> std::same_as<typename C::Tensor>;
  { F::gives(weights, Output::kLogits) } -> std::same_as<bool>;
  { F::output(context, config, weights, x, Output::kLogits) } -> std::same_as<typename C::Tensor>;
};

// Projections -> attention -> output projection, [R, d]: what is added to the residual stream.
template <class Family, class Context, class Layer>
typename Context::Tensor attention_part(Context& context, const ModelConfig& config, const Layer& layer, int64_t index,
                                        const typename Context::Tensor& x) {
  const std::array rows = Family::projections(context, config, index, layer, x);  // h, q, k, v
  const typename Context::Vector* bias = nullptr;
  if constexpr (requires { layer.bias; }) bias = &layer.bias;
  const auto attended = context.attend(index, rows[0], rows[1], rows[2], rows[3], bias);
  return context.project(Family::gated(context, layer, rows[0], attended), std::array{&layer.o})[0];
}

// The residual stream after a part of a layer, [R, d].
template <class Family, class Context, class Layer>
typename Context::Tensor add_part(Context& context, const ModelConfig& config, const Layer& layer, Part part,
                                  const typename Context::Tensor& x, const typename Context::Tensor& added) {
  return Family::norm_after(context, config, layer, part, context.add(x, added));
}

// What a layer gives, [R, d], of its input and its attention_part().
template <class Family, class Context, class Layer>
typename Context::Tensor rest_of_layer(Context& context, const ModelConfig& config, const Layer& layer, int64_t index,
                                       const typename Context::Tensor& x, const typename Context::Tensor& attention) {
  auto y = add_part<Family>(context, config, layer, Part::kAttention, x, attention);
  if constexpr (Family::kHasSource) {
    y = context.add(y, Family::cross(context, config, layer, index, y));
  }
  if constexpr (Family::kHasMlp) {
    y = add_part<Family>(context, config, layer, Part::kMlp, y, Family::mlp(context, config, layer, y));
  }
  return y;
}

// What the final norm leaves of the wanted rows, [rows, d].
template <class Family, class Context>
requires FamilyFor<Family, Context>
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

// What is asked for of forward_hidden()'s rows; the model must have it.
template <class Family, class Context>
typename Context::Tensor output_of(Context& context, const ModelConfig& config,
                                   const typename Family::template Weights<Context>& weights,
                                   const typename Context::Tensor& hidden, Output what) {
  if (what == Output::kHidden) return hidden;
  return Family::output(context, config, weights, hidden, what);
}

}  // namespace espalier
