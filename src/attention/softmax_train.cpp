#include <ATen/ATen.h>

#include <cmath>

#include "attention/mechanisms_train.h"

namespace espalier {
namespace {

class TrainSoftmax : public TrainMechanism {
 public:
  at::Tensor mix(const TrainRows& rows, const std::vector<at::Tensor>&) const override {
    const at::Tensor& q = rows.q;
    const at::Tensor& k = rows.k;
    const at::Tensor& v = rows.v;
    return at::scaled_dot_product_attention(q, per_query_head(k, q.size(1)), per_query_head(v, q.size(1)), {}, 0.0,
                                            /*is_causal=*/true);
  }
};

}  // namespace

std::unique_ptr<TrainMechanism> make_train_softmax(const AttentionSpec&, const AttentionShape&) {
  return std::make_unique<TrainSoftmax>();
}

}  // namespace espalier
