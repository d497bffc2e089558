#include "attention/linformer/linformer.h"

#include <ATen/ATen.h>

#include <cmath>
#include <limits>

#include "attention/mechanism_train.h"
#include "attention/shared/grouping_train.h"

namespace espalier {
namespace {

class TrainLinformer : public TrainMechanism {
 public:
  explicit TrainLinformer(const LinformerOptions& options) : options_(options) {}

  at::Tensor mix(const TrainRows& rows, const std::vector<at::Tensor>& parameters) const override {
    const int64_t heads_kv = rows.k.size(1), per_kv = rows.q.size(1) / heads_kv, group = options_.group;
    const double scale = 1.0 / std::sqrt(static_cast<double>(rows.q.size(3)));
    const at::Tensor q = grouped_queries(rows.q * scale, heads_kv, group);    // [B, Hk, n, R G, D]
    const at::Tensor k = grouped(rows.k, group), v = grouped(rows.v, group);  // [B, Hk, n, G, D]
    const int64_t groups = k.size(2);
    const at::Tensor keys = at::matmul(parameters[0].unsqueeze(1), k).flatten(2, 3);  // [B, Hk, n r, D]
    const at::Tensor values = at::matmul(parameters[1].unsqueeze(1), v).flatten(2, 3);
    const at::Tensor near_k = at::cat({shifted(k, 1), k}, 3), near_v = at::cat({shifted(v, 1), v}, 3);
    const at::Tensor far = at::matmul(q, keys.unsqueeze(2).transpose(-1, -2));  // [B, Hk, n, R G, n r]
    const at::Tensor near = at::matmul(q, near_k.transpose(-1, -2));            // [B, Hk, n, R G, 2 G]
    const at::Tensor index = at::arange(groups);
    const at::Tensor closed = (index.view({1, -1}) > index.view({-1, 1}) - 2).repeat_interleave(options_.rank, 1);
    const at::Tensor row = at::arange(group).repeat({per_kv}).view({1, -1, 1}) + group;
    const at::Tensor column = at::arange(2 * group).view({1, 1, -1});
    const at::Tensor hidden = (column > row).logical_or((index.view({-1, 1, 1}) - 1) * group + column < 0);
    const double minus = -std::numeric_limits<double>::infinity();
    const at::Tensor scores =
        at::cat({far.masked_fill(closed.unsqueeze(1), minus), near.masked_fill(hidden, minus)}, -1);
    const at::Tensor weights = scores.softmax(-1);
    const at::Tensor y = at::matmul(weights.narrow(-1, 0, keys.size(2)), values.unsqueeze(2)) +
                         at::matmul(weights.narrow(-1, keys.size(2), 2 * group), near_v);
    return ungrouped_queries(y, rows.q.size(1), rows.q.size(2));
  }

 private:
  LinformerOptions options_;
};

}  // namespace

TrainHalf linformer_train() {
  return {.make = [](const AttentionOptions& options, const AttentionShape&) {
    return std::make_unique<TrainLinformer>(LinformerOptions::of(options));
  }};
}

}  // namespace espalier
