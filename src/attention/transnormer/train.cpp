#include "attention/transnormer/transnormer.h"

#include <ATen/ATen.h>

#include <cmath>
#include <limits>

#include "attention/flash/flash.h"
#include "attention/mechanisms_train.h"
#include "attention/shared/additive_train.h"

namespace espalier {
namespace {

class TrainDiagAttention : public TrainMechanism {
 public:
  explicit TrainDiagAttention(int64_t group) : group_(group) {}

  at::Tensor mix(const TrainRows& rows, const std::vector<at::Tensor>&) const override {
    const at::Tensor& q = rows.q;
    const at::Tensor& k = rows.k;
    const at::Tensor& v = rows.v;
    const int64_t heads = q.size(1), heads_kv = k.size(1);
    const double scale = 1.0 / std::sqrt(static_cast<double>(q.size(3)));
    const at::Tensor scores = at::matmul(grouped_queries(q * scale, heads_kv, group_),
                                         grouped(k, group_).transpose(-1, -2));  // [B, Hk, n, H/Hk * G, G]
    const at::Tensor future = at::ones({group_, group_}, at::kBool).triu(1).repeat({heads / heads_kv, 1});
    const at::Tensor weights = scores.masked_fill(future, -std::numeric_limits<double>::infinity()).softmax(-1);
    return ungrouped_queries(at::matmul(weights, grouped(v, group_)), heads, q.size(2));
  }

 private:
  int64_t group_;
};

}  // namespace

std::unique_ptr<TrainMechanism> make_train_transnormer(const AttentionSpec& spec, const AttentionShape& shape) {
  if (!is_diagonal_layer(shape)) return make_train_additive(make_train_norm_form(spec, shape));
  return std::make_unique<TrainDiagAttention>(spec.integer("group", 64, kMinGroup, kMaxGroup));
}

}  // namespace espalier
