// The contract of an attention mechanism, training half: the whole sequence at once, with gradients.
//
// Positions start at 0 and groups at position 0. The values equal those of the step half within rounding; both are
// measured against the f64 plain loops (shared/plain.h).
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "attention/card.h"
#include "attention/operator.h"

namespace espalier {

// What a layer's mechanism is given of a batch of whole sequences.
struct TrainRows {
  at::Tensor q, k, v;  // [B, H, T, Dk], [B, Hk, T, Dk], [B, Hk, T, Dv]
  at::Tensor hidden;   // [B, T, d] what q, k and v were projected from
  at::Tensor bias;     // [H, 2 reach + 1], see RelativeBias; undefined: none
  bool span = false;   // all rows see each other
};

class TrainMechanism {
 public:
  virtual ~TrainMechanism() = default;

  // -> [B, H, T, Dv]. `parameters` as Mechanism::parameters() lists them. T is free: incomplete groups are padded
  // inside.
  at::Tensor parallel(const TrainRows& rows, const std::vector<at::Tensor>& parameters) const;

  // parallel() in two: what each head gives, and the norm over all heads that Mechanism::finish() is.
  virtual at::Tensor mix(const TrainRows& rows, const std::vector<at::Tensor>& parameters) const = 0;
  virtual at::Tensor finish(const at::Tensor& mixed) const;
};

// An additive mechanism's features of whole sequences: q [B, H, T, D], k [B, Hk, T, D], the mechanism's parameters ->
// phi(q) [B, H, T, M], phi(k) [B, Hk, T, M].
using TrainFeatures = std::function<std::pair<at::Tensor, at::Tensor>(const at::Tensor& q, const at::Tensor& k,
                                                                      const std::vector<at::Tensor>& parameters)>;

// How the training half of a mechanism is made, as its card says it of the step half: either may be missing, make comes
// first. An additive one has features; all else is its card's. x/train.cpp defines x_train(); registry_train.cpp
// collects them (mechanisms.def).
struct TrainHalf {
  std::function<std::unique_ptr<TrainMechanism>(const AttentionOptions& options, const AttentionShape& shape)> make =
      {};
  std::function<TrainFeatures(const AttentionOptions& options, const AttentionShape& shape)> features = {};
};

// Throws InvalidArgument for an unknown name or a bad option, as make_mechanism does.
std::unique_ptr<TrainMechanism> make_train_mechanism(const AttentionSpec& spec, const AttentionShape& shape);

}  // namespace espalier
