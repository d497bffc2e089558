// What a Context offers to a model's text, which is written once for both halves: StepContext runs it on arena memory
// with packed weights, TrainContext on tensors with gradients.
//   Tensor [R, features], Matrix (a linear layer: weight and bias), Vector (a norm's weight or bias), Tokens
//   embed(Matrix, Tokens)               [R] -> [R, d]
//   add_positions(Tensor, Matrix)       + the table's row of each row's position
//   add_token_types(Tensor, Matrix)     + the table's row of each row's token type
//   rms_norm(Tensor, Vector, eps), layer_norm(Tensor, weight, bias, eps)
//   scale_norm(Tensor, Vector [1], eps) factor * x / max(|x| / sqrt(d), eps)
//   add_sinusoids(Tensor, Vector [1])   + factor * [sin(p f_i) …, cos(p f_i) …], f_i = 10000^(-2i / d), p the position
//   shift_tokens(layer, Tensor)         the first half of the channels from the row before, zero before the text
//   scale_shift(Tensor, Vector, Vector) [R, n] -> [R, m n]: x * scale + shift for each of m parts of scale and shift
//   project(Tensor, {Matrix…})          [R, in] -> one [R, out] for each matrix, in one pass over the rows
//   rotate(Tensor, heads, head_dim)     rotary embedding, halves layout, of config.rotary_dim dimensions
//   attend(layer, h, q, k, v, bias)     h, of which q, k, v were made: [R, H*Dv], by the layer's mechanism, with a
//                                       relative bias, Vector [H * (2 reach + 1)], or null
//   attend_source(layer, q, k, v)       [R, H*D], over a source's keys and values, made by matrices k and v
//   scale(Tensor, factor)
//   activate(f, x), gated(f, gate, up)  f(x), f(gate) * up
//   add(Tensor, Tensor)                 residual
//   add_vector(Tensor, Vector)          the same vector to every row
//   layer(Tensor, body)                 runs body(x) -> x; where a Context manages memory
//   output_rows(Tensor)                 the rows whose logits are wanted
// Results may take the place of an operand in memory: a model uses each tensor once, except a layer's input and what a
// norm gave.
//
// A Loader reads the weights: matrix(name, outputs, inputs, bias) -> Matrix: "name.weight" [outputs, inputs] and, if
// it has one, "name.bias"; vector(name, n) -> Vector; relative_bias(name, config)
// -> Vector (models/relative_bias.h); has(name): whether there is such a tensor. Matrices may be filled
// after load(), which does not look at them.
#pragma once

#include <array>
#include <concepts>
#include <optional>
#include <string>
#include <vector>

#include "attention/state/row_tail.h"
#include "checkpoint/model_files.h"
#include "models/output.h"

namespace espalier {

// How many channels a token shift takes from the row before.
inline int64_t shifted_channels(int64_t d) {
  return (d + 1) / 2;
}

// A linear layer of a model's layer: name.weight [outputs, inputs] and, if it has one, name.bias.
struct LinearLayer {
  std::string name;
  int64_t outputs, inputs;
  bool bias = false;
  bool mlp = false;  // of the MLP, else of the attention
};

template <class C>
concept ModelContext = requires(C& context, const typename C::Tensor& x, const typename C::Matrix& matrix,
                                const typename C::Vector& vector, const typename C::Tokens& tokens, int64_t n,
                                double eps, Activation f) {
  { context.embed(matrix, tokens) } -> std::same_as<typename C::Tensor>;
  { context.add_positions(x, matrix) } -> std::same_as<typename C::Tensor>;
  { context.add_token_types(x, matrix) } -> std::same_as<typename C::Tensor>;
  { context.rms_norm(x, vector, eps) } -> std::same_as<typename C::Tensor>;
  { context.layer_norm(x, vector, vector, eps) } -> std::same_as<typename C::Tensor>;
  { context.scale_norm(x, vector, eps) } -> std::same_as<typename C::Tensor>;
  { context.add_sinusoids(x, vector) } -> std::same_as<typename C::Tensor>;
  { context.shift_tokens(n, x) } -> std::same_as<typename C::Tensor>;
  { context.scale_shift(x, vector, vector) } -> std::same_as<typename C::Tensor>;
  { context.project(x, std::array{&matrix}) } -> std::same_as<std::array<typename C::Tensor, 1>>;
  { context.rotate(x, n, n) } -> std::same_as<typename C::Tensor>;
  { context.attend(n, x, x, x, x, &vector) } -> std::same_as<typename C::Tensor>;
  { context.attend_source(n, x, matrix, matrix) } -> std::same_as<typename C::Tensor>;
  { context.scale(x, eps) } -> std::same_as<typename C::Tensor>;
  { context.activate(f, x) } -> std::same_as<typename C::Tensor>;
  { context.gated(f, x, x) } -> std::same_as<typename C::Tensor>;
  { context.add(x, x) } -> std::same_as<typename C::Tensor>;
  { context.add_vector(x, vector) } -> std::same_as<typename C::Tensor>;
  { context.output_rows(x) } -> std::same_as<typename C::Tensor>;
};

// Reads all linear layers of a model's layer.
template <class Family, class Loader, class Layer>
void load_matrices(Loader& loader, const ModelConfig& config, int64_t index, Layer& layer) {
  Family::each_matrix(layer, config, index, [&](auto& matrix, const LinearLayer& linear) {
    matrix = loader.matrix(linear.name, linear.outputs, linear.inputs, linear.bias);
  });
}

}  // namespace espalier
