#include <ATen/ATen.h>

#include "attention/flash.h"
#include "attention/mechanisms_train.h"

namespace espalier {
namespace {

class TrainFlashLocal : public TrainMechanism {
 public:
  TrainFlashLocal(int64_t group, bool terraced) : group_(group), terraced_(terraced) {}

  at::Tensor parallel(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                      const std::vector<at::Tensor>&) const override {
    const int64_t heads = q.size(1);
    const at::Tensor queries = grouped(normalised(q), group_);  // [B, H, n, G, D]
    at::Tensor keys = grouped(normalised(k), group_), values = grouped(v, group_);
    if (terraced_) {
      keys = at::cat({shifted(keys, 1), keys}, 3);  // [B, Hk, n, 2G, D]
      values = at::cat({shifted(values, 1), values}, 3);
    }
    at::Tensor weights = at::matmul(queries, per_query_head(keys, heads).transpose(-1, -2)).relu();
    // Rows before the text are zero and give weight 0; only the future must go.
    weights = (weights * weights).tril(terraced_ ? group_ : 0);
    return ungrouped(at::matmul(weights, per_query_head(values, heads)), q.size(2));
  }

 private:
  int64_t group_;
  bool terraced_;
};

class TrainFlashGlobal : public TrainMechanism {
 public:
  TrainFlashGlobal(int64_t group, bool count) : group_(group), count_(count) {}

  at::Tensor parallel(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                      const std::vector<at::Tensor>&) const override {
    const at::Tensor queries = grouped(normalised(q), group_);  // [B, H, n, G, D]
    const at::Tensor sums = at::matmul(grouped(normalised(k), group_).transpose(-1, -2), grouped(v, group_));
    at::Tensor closed = shifted(sums, 1).cumsum(2);  // [B, Hk, n, Dk, Dv]
    if (count_) {
      const at::Tensor rows = at::arange(closed.size(2), q.options()).clamp_min(1) * group_;
      closed = closed / rows.view({1, 1, -1, 1, 1});
    }
    return ungrouped(at::matmul(queries, per_query_head(closed, q.size(1))), q.size(2));
  }

 private:
  int64_t group_;
  bool count_;
};

}  // namespace

std::unique_ptr<TrainMechanism> make_train_flash_local(const AttentionSpec& spec, const AttentionShape&) {
  return std::make_unique<TrainFlashLocal>(spec.integer("group", 64, kMinGroup, kMaxGroup),
                                           spec.value("local", "blocked") == "terraced");
}

std::unique_ptr<TrainMechanism> make_train_flash_global(const AttentionSpec& spec, const AttentionShape&) {
  return std::make_unique<TrainFlashGlobal>(spec.integer("group", 64, kMinGroup, kMaxGroup),
                                            spec.value("scale", "count") == "count");
}

}  // namespace espalier
