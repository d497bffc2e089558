#include <ATen/ATen.h>

#include <limits>
#include <optional>

#include "attention/mechanism_train.h"
#include "attention/shared/grouping_train.h"
#include "attention/softmax/softmax.h"

namespace espalier {
namespace {

class TrainSoftmax : public TrainMechanism {
 public:
  explicit TrainSoftmax(const AttentionShape& shape) : scale_(softmax_scale(shape)) {}

  at::Tensor mix(const TrainRows& rows, const std::vector<at::Tensor>&) const override {
    const at::Tensor& q = rows.q;
    const at::Tensor& k = rows.k;
    const at::Tensor& v = rows.v;
    std::optional<at::Tensor> added;
    if (rows.bias.defined()) {
      const int64_t tokens = q.size(2);
      added = spread_bias(rows.bias, tokens, tokens, 0);
      const at::Tensor future = at::ones({tokens, tokens}, at::kBool).triu(1);
      if (!rows.span) added = added->masked_fill(future, -std::numeric_limits<double>::infinity());
    }
    return at::scaled_dot_product_attention(q, per_query_head(k, q.size(1)), per_query_head(v, q.size(1)), added, 0.0,
                                            /*is_causal=*/!rows.span && !added, scale_);
  }

 private:
  double scale_;
};

}  // namespace

TrainHalf softmax_train() {
  return {.make = [](const AttentionOptions&, const AttentionShape& shape) {
    return std::make_unique<TrainSoftmax>(shape);
  }};
}

}  // namespace espalier
