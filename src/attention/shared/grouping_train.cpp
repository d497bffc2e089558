#include "attention/shared/grouping_train.h"

#include <ATen/ATen.h>

#include "attention/shared/min_norm.h"

namespace espalier {

at::Tensor grouped(const at::Tensor& x, int64_t group) {
  const int64_t tokens = x.size(2), groups = (tokens + group - 1) / group;
  const at::Tensor padded = groups * group == tokens ? x : at::constant_pad_nd(x, {0, 0, 0, groups * group - tokens});
  return padded.reshape({x.size(0), x.size(1), groups, group, x.size(3)});
}

at::Tensor ungrouped(const at::Tensor& x, int64_t tokens) {
  return x.reshape({x.size(0), x.size(1), x.size(2) * x.size(3), x.size(4)}).narrow(2, 0, tokens);
}

at::Tensor grouped_queries(const at::Tensor& x, int64_t heads_kv, int64_t group) {
  const at::Tensor rows = grouped(x, group);  // [B, H, n, G, D]
  const int64_t batch = rows.size(0), groups = rows.size(2), per_kv = x.size(1) / heads_kv;
  return rows.reshape({batch, heads_kv, per_kv, groups, group, x.size(3)})
      .transpose(2, 3)
      .reshape({batch, heads_kv, groups, per_kv * group, x.size(3)});
}

at::Tensor ungrouped_queries(const at::Tensor& x, int64_t heads, int64_t tokens) {
  const int64_t batch = x.size(0), heads_kv = x.size(1), groups = x.size(2), per_kv = heads / heads_kv;
  const int64_t group = x.size(3) / per_kv;
  return x.view({batch, heads_kv, groups, per_kv, group, x.size(4)})
      .transpose(2, 3)
      .reshape({batch, heads, groups * group, x.size(4)})
      .narrow(2, 0, tokens);
}

at::Tensor per_query_head(const at::Tensor& x, int64_t heads) {
  return heads == x.size(1) ? x : x.repeat_interleave(heads / x.size(1), 1);
}

at::Tensor shifted(const at::Tensor& x, int64_t by) {
  const int64_t groups = x.size(2);
  if (by == 0) return x;
  if (by >= groups) return at::zeros_like(x);
  std::vector<int64_t> shape = x.sizes().vec();
  shape[2] = by;
  return at::cat({at::zeros(shape, x.options()), x.narrow(2, 0, groups - by)}, 2);
}

at::Tensor summed_before(const at::Tensor& x, int64_t by) {
  const int64_t groups = x.size(2);
  const at::Tensor triangle = at::ones({groups, groups}, x.options()).tril(-by);
  return at::matmul(triangle, x.flatten(3)).view(x.sizes());
}

at::Tensor normalised(const at::Tensor& x) {
  // The length of a zero row has no gradient; its square is kept away from 0 where it is not used.
  const at::Tensor squares = (x * x).sum(-1, true);
  return x / squares.clamp_min(kMinNorm * kMinNorm).sqrt();
}

at::Tensor spread_bias(const at::Tensor& bias, int64_t queries, int64_t keys, int64_t first) {
  const int64_t reach = (bias.size(1) - 1) / 2;
  const auto whole = at::TensorOptions().dtype(at::kLong);
  const at::Tensor distance =
      at::arange(first, first + keys, whole).unsqueeze(0) - at::arange(queries, whole).unsqueeze(1);
  const at::Tensor index = distance.clamp(-reach, reach) + reach;  // [queries, keys]
  return bias.index_select(1, index.reshape(-1)).view({bias.size(0), queries, keys});
}

}  // namespace espalier
