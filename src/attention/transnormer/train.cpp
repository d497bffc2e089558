#include "attention/transnormer/transnormer.h"

#include <ATen/ATen.h>

#include <cmath>
#include <limits>

#include "attention/linear/train.h"
#include "attention/shared/additive_train.h"
#include "attention/shared/grouping_train.h"

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

TrainFeatures norm_features(const AttentionOptions&, const AttentionShape&) {
  return same_features(train_elu_plus_one);
}

std::unique_ptr<TrainMechanism> make(const AttentionOptions& options, const AttentionShape& shape) {
  if (is_diagonal_layer(shape)) return std::make_unique<TrainDiagAttention>(options.integer("group"));
  return make_train_additive(norm_features(options, shape), options.card().additive.form(options, shape));
}

}  // namespace

TrainHalf transnormer_train() {
  return {.make = make, .features = norm_features};
}

}  // namespace espalier
