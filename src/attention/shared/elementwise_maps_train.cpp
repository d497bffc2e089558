#include <ATen/ATen.h>

#include <cmath>
#include <numbers>

#include "attention/shared/additive_train.h"
#include "attention/shared/elementwise_maps.h"

namespace espalier {
namespace {

using Pair = std::pair<at::Tensor, at::Tensor>;

// The same map for queries and keys.
template <class Map>
TrainAdditiveForm shared_form(Denominator denominator, Map map) {
  return {.map = [map](const at::Tensor& q, const at::Tensor& k,
                       const std::vector<at::Tensor>&) { return Pair(map(q), map(k)); },
          .denominator = denominator};
}

at::Tensor elu_plus_one(const at::Tensor& x) {
  return at::where(x > 0, x + 1, x.clamp_max(0).exp());
}

}  // namespace

TrainAdditiveForm make_train_linear_form(const AttentionSpec& spec, const AttentionShape& shape) {
  return shared_form(make_linear_form(spec, shape).denominator, elu_plus_one);
}

TrainAdditiveForm make_train_relu_form(const AttentionSpec& spec, const AttentionShape& shape) {
  return shared_form(make_relu_form(spec, shape).denominator, [](const at::Tensor& x) { return x.relu(); });
}

TrainAdditiveForm make_train_angular_form(const AttentionSpec& spec, const AttentionShape& shape) {
  return shared_form(make_angular_form(spec, shape).denominator, [](const at::Tensor& x) {
    const at::Tensor constant = at::full_like(x.detach().narrow(-1, 0, 1), std::numbers::sqrt2 / 2);
    return at::cat({constant, normalised(x) * std::sqrt(std::numbers::inv_pi)}, -1);
  });
}

TrainAdditiveForm make_train_cosformer_form(const AttentionSpec& spec, const AttentionShape& shape) {
  const AdditiveForm form = make_cosformer_form(spec, shape);
  const double step = std::numbers::pi / 2 / static_cast<double>(form.map->max_length());
  return shared_form(form.denominator, [step](const at::Tensor& x) {
    const at::Tensor angle = (at::arange(x.size(2), at::kDouble) + 1).mul(step).view({-1, 1});
    const auto times = [&](const at::Tensor& factor) { return x.relu() * factor.to(x.scalar_type()); };
    return at::cat({times(angle.sin()), times(angle.cos())}, -1);
  });
}

TrainAdditiveForm make_train_norm_form(const AttentionSpec&, const AttentionShape&) {
  TrainAdditiveForm form = shared_form({}, elu_plus_one);
  form.rms = true;
  return form;
}

}  // namespace espalier
