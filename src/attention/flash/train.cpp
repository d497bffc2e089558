#include "attention/flash/train.h"

#include <ATen/ATen.h>

#include "attention/augmented/train.h"
#include "attention/shared/grouping_train.h"

namespace espalier {
namespace {

class TrainFlashLocal : public TrainMechanism {
 public:
  explicit TrainFlashLocal(const FlashLocalOptions& options) : group_(options.group), terraced_(options.terraced) {}

  at::Tensor mix(const TrainRows& rows, const std::vector<at::Tensor>&) const override {
    const at::Tensor& q = rows.q;
    const at::Tensor& k = rows.k;
    const at::Tensor& v = rows.v;
    const int64_t heads = q.size(1), heads_kv = k.size(1);
    const at::Tensor queries = grouped_queries(normalised(q), heads_kv, group_);  // [B, Hk, n, H/Hk * G, D]
    at::Tensor keys = grouped(normalised(k), group_), values = grouped(v, group_);
    const auto with_neighbours = [&](const at::Tensor& x) {  // [B, Hk, n, 2G, D], of a span 3G
      if (!rows.span) return at::cat({shifted(x, 1), x}, 3);
      const at::Tensor next = at::constant_pad_nd(x.narrow(2, 1, x.size(2) - 1), {0, 0, 0, 0, 0, 1});
      return at::cat({shifted(x, 1), x, next}, 3);
    };
    if (terraced_) {
      keys = with_neighbours(keys);
      values = with_neighbours(values);
    }
    const at::Tensor weights = at::matmul(queries, keys.transpose(-1, -2)).relu();
    const int64_t first = terraced_ ? -group_ : 0;  // of the keys, from the group's first row
    at::Tensor scores = weights * weights;
    if (rows.bias.defined()) {
      const at::Tensor bias = spread_bias(rows.bias, group_, keys.size(3), first);  // [H, G, keys]
      scores = scores + bias.view({heads_kv, 1, heads / heads_kv * group_, keys.size(3)});
    }
    // Rows outside of the text have values of zero; only the future must go.
    if (!rows.span) {
      const at::Tensor past = at::ones({group_, keys.size(3)}, q.options()).tril(-first);
      scores = scores * past.repeat({heads / heads_kv, 1});
    }
    return ungrouped_queries(at::matmul(scores, values), heads, q.size(2));
  }

 private:
  int64_t group_;
  bool terraced_;
};

class TrainFlashGlobal : public TrainMechanism {
 public:
  explicit TrainFlashGlobal(const FlashGlobalOptions& options) : group_(options.group), scale_(options.scale) {}

  at::Tensor mix(const TrainRows& rows, const std::vector<at::Tensor>&) const override {
    const at::Tensor& q = rows.q;
    const at::Tensor& k = rows.k;
    const at::Tensor& v = rows.v;
    const at::Tensor queries = grouped_queries(normalised(q), k.size(1), group_);  // [B, Hk, n, H/Hk * G, D]
    const at::Tensor sums = at::matmul(grouped(normalised(k), group_).transpose(-1, -2), grouped(v, group_));
    if (rows.span) {
      const at::Tensor all = sums.sum(2, true) / flash_span_divisor(scale_, q.size(2), group_);
      return ungrouped_queries(at::matmul(queries, all), q.size(1), q.size(2));
    }
    at::Tensor closed = summed_before(sums, 1);  // [B, Hk, n, Dk, Dv]
    if (scale_ != FlashScale::kNone) {
      const int64_t unit = flash_divisor(scale_, 1, group_);
      const at::Tensor divisor = at::arange(closed.size(2), q.options()).clamp_min(1) * unit;
      closed = closed / divisor.view({1, 1, -1, 1, 1});
    }
    return ungrouped_queries(at::matmul(queries, closed), q.size(1), q.size(2));
  }

 private:
  int64_t group_;
  FlashScale scale_;
};

}  // namespace

std::unique_ptr<TrainMechanism> make_train_flash_local(const FlashLocalOptions& options) {
  return std::make_unique<TrainFlashLocal>(options);
}

std::unique_ptr<TrainMechanism> make_train_flash_global(const FlashGlobalOptions& options) {
  return std::make_unique<TrainFlashGlobal>(options);
}

TrainHalf flash_local_train() {
  return {.make = [](const AttentionOptions& options, const AttentionShape&) {
    return make_train_flash_local(FlashLocalOptions::of(options));
  }};
}

TrainHalf flash_global_train() {
  return {.make = [](const AttentionOptions& options, const AttentionShape&) {
    return make_train_flash_global(FlashGlobalOptions::of(options));
  }};
}

TrainHalf flash_train() {
  return {.make = [](const AttentionOptions& options, const AttentionShape& shape) {
    return make_train_augmented(flash_options(options), shape);
  }};
}

}  // namespace espalier
