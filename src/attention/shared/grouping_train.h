// Pieces that training halves share: whole sequences cut into groups; n = ceil(T / G) groups.
#pragma once

#include <ATen/core/Tensor.h>

namespace espalier {

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
