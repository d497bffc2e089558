// Pieces of training halves whose state forgets, chunk by chunk.
#pragma once

#include <vector>

#include "attention/mechanism_train.h"

namespace espalier {

// [B, H, n, C, D] rows of query heads beside their KV head: [B, Hk, H/Hk, n, C, D].
at::Tensor by_kv_head(const at::Tensor& x, int64_t heads_kv);
// y [B, Hk, H/Hk, n, C, Dv] -> [B, H, T, Dv], scaled; `norm`: with the norm that ends a head (head_norm.h).
at::Tensor finished(const at::Tensor& y, bool norm, const TrainRows& rows, const std::vector<at::Tensor>& parameters);

}  // namespace espalier
