#include "attention/shared/additive_train.h"

#include <ATen/ATen.h>

#include <cmath>

#include "attention/shared/grouping_train.h"

namespace espalier {
namespace {

// Rows that are weighed one by one; of speed alone.
constexpr int64_t kChunk = 64;

class TrainAdditive : public TrainMechanism {
 public:
  TrainAdditive(TrainFeatures features, const AdditiveForm& form, int64_t closed_group)
      : features_(std::move(features)),
        denominator_(form.denominator),
        rms_(form.rms),
        closed_(closed_group > 0),
        chunk_(closed_group > 0 ? closed_group : kChunk) {}

  at::Tensor mix(const TrainRows& rows, const std::vector<at::Tensor>& parameters) const override {
    const at::Tensor& q = rows.q;
    const at::Tensor& k = rows.k;
    const at::Tensor& v = rows.v;
    const auto [features_q, features_k] = features_(q, k, parameters);
    const at::Tensor phi_q = grouped_queries(features_q, k.size(1), chunk_);  // [B, Hk, n, H/Hk * C, M]
    const at::Tensor phi_k = grouped(features_k, chunk_);                     // [B, Hk, n, C, M], zero rows at the end
    const at::Tensor ones = at::ones({v.size(0), v.size(1), v.size(2), 1}, v.options().requires_grad(false));
    const at::Tensor values = grouped(at::cat({v, ones}, 3), chunk_);         // the last column sums weights
    const at::Tensor products = at::matmul(phi_k.transpose(-1, -2), values);  // [B, Hk, n, M, Dv + 1]
    at::Tensor sums = at::matmul(phi_q, rows.span ? products.sum(2, true) : summed_before(products, 1));
    if (!closed_ && !rows.span) {
      const at::Tensor past = at::ones({chunk_, chunk_}, q.options().requires_grad(false)).tril();
      const at::Tensor weights = at::matmul(phi_q, phi_k.transpose(-1, -2)) * past.repeat({q.size(1) / k.size(1), 1});
      sums = sums + at::matmul(weights, values);  // [B, Hk, n, H/Hk * C, Dv + 1]
    }
    const at::Tensor numerator = sums.narrow(-1, 0, v.size(3)), weight = sums.narrow(-1, v.size(3), 1);
    const Denominator& d = denominator_;
    const at::Tensor y = d.kind == Denominator::kNone   ? numerator
                         : d.kind == Denominator::kPlus ? numerator / (weight + d.value)
                                                        : numerator / weight.clamp_min(d.value);
    return ungrouped_queries(y, q.size(1), q.size(2));
  }

  at::Tensor finish(const at::Tensor& mixed) const override {
    if (!rms_) return mixed;
    const double size = static_cast<double>(mixed.size(1) * mixed.size(3));
    // A zero row's length has no gradient.
    const at::Tensor root = (mixed * mixed).sum(at::IntArrayRef{1, 3}, true).clamp_min(1e-30).sqrt();
    return mixed / (root / std::sqrt(size) + 1e-8);
  }

 private:
  TrainFeatures features_;
  Denominator denominator_;
  bool rms_, closed_;
  int64_t chunk_;
};

}  // namespace

std::unique_ptr<TrainMechanism> make_train_additive(TrainFeatures features, const AdditiveForm& form,
                                                    int64_t closed_group) {
  return std::make_unique<TrainAdditive>(std::move(features), form, closed_group);
}

}  // namespace espalier
