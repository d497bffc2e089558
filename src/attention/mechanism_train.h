// The contract of an attention mechanism, training half: the whole sequence at once, with gradients.
//
// Positions start at 0 and groups at position 0. The values equal those of the step half within rounding; both are
// measured against the f64 plain loops (shared/plain.h).
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

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

// Throws InvalidArgument for an unknown name or a bad option, as make_mechanism does.
std::unique_ptr<TrainMechanism> make_train_mechanism(const AttentionSpec& spec, const AttentionShape& shape);

// --- pieces that mechanisms share (shared/grouping_train.cpp); n = ceil(T / G) groups

// [B, X, T, D] -> [B, X, n, G, D], zero rows at the end.
at::Tensor grouped(const at::Tensor& x, int64_t group);
// The inverse: [B, X, n, G, D] -> [B, X, T, D].
at::Tensor ungrouped(const at::Tensor& x, int64_t tokens);
// Every KV head beside its query heads: [B, Hk, …] -> [B, H, …].
at::Tensor per_query_head(const at::Tensor& x, int64_t heads);
// Query heads that share a KV head as rows of one product, so that no key is copied: [B, H, T, D] ->
// [B, Hk, n, H/Hk * G, D] with rows (head, position), and back.
at::Tensor grouped_queries(const at::Tensor& x, int64_t heads_kv, int64_t group);
at::Tensor ungrouped_queries(const at::Tensor& x, int64_t heads, int64_t tokens);
// y[g] = x[g - by] along dimension 2, zero for g < by.
at::Tensor shifted(const at::Tensor& x, int64_t by);
// y[g] = sum of x[j] over j <= g - by along dimension 2: one product with a triangle of ones, whose zeros keep later
// groups out exactly; by >= 1.
at::Tensor summed_before(const at::Tensor& x, int64_t by);
// bias [H, 2 reach + 1] spread over queries at 0, 1, … and keys at `first`, first + 1, …: [H, queries, keys].
at::Tensor spread_bias(const at::Tensor& bias, int64_t queries, int64_t keys, int64_t first);
// x / max(|x|, 1e-6) along the last dimension.
at::Tensor normalised(const at::Tensor& x);

}  // namespace espalier
