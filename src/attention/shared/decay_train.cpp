#include "attention/shared/decay_train.h"

#include <ATen/ATen.h>

#include <cmath>

#include "attention/shared/grouping_train.h"
#include "attention/shared/head_norm.h"

namespace espalier {

at::Tensor by_kv_head(const at::Tensor& x, int64_t heads_kv) {
  std::vector<int64_t> shape = x.sizes().vec();
  shape[1] = heads_kv;
  shape.insert(shape.begin() + 2, x.size(1) / heads_kv);
  return x.reshape(shape);
}

at::Tensor finished(const at::Tensor& y, bool norm, const TrainRows& rows, const std::vector<at::Tensor>& parameters) {
  const at::Tensor heads = y.flatten(1, 2) / std::sqrt(static_cast<double>(rows.q.size(3)));  // [B, H, n, C, Dv]
  const at::Tensor out = ungrouped(heads, rows.q.size(2));
  if (!norm) return out;
  const at::Tensor root = (out.square().mean(-1, true) + kHeadNormEps).sqrt();
  return out / root * parameters.back().unsqueeze(1);
}

}  // namespace espalier
