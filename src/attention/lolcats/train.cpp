#include "attention/lolcats/train.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "attention/conv/train.h"
#include "attention/hedgehog/train.h"
#include "attention/shared/grouping_train.h"

namespace espalier {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

// Softmax over the window and the sinks, and its denominator after the greatest score was subtracted:
//   P = softmax(q K^T + mask), mean = P V, size = sum_j e^{s_j - max s} = 1 / max_j P_j.
// q [B, Hk, n, R, D] scaled, keys and values [B, Hk, n, C, D], mask [n, R, C] 0 or -inf
// -> mean [B, Hk, n, R, D], size [B, Hk, n, R, 1]. Written by hand: the scores are the largest tensors of a layer.
class WindowSoftmax : public torch::autograd::Function<WindowSoftmax> {
 public:
  static variable_list forward(AutogradContext* context, const Variable& q, const Variable& keys,
                               const Variable& values, const Variable& mask) {
    at::Tensor weights = at::matmul(q, keys.transpose(-1, -2)).add_(mask);
    at::_softmax_out(weights, weights, -1, false);
    auto [greatest, at_greatest] = weights.max(-1, true);
    const at::Tensor size = greatest.reciprocal();
    context->save_for_backward({q, keys, values, weights, size, at_greatest});
    return {at::matmul(weights, values), size};
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &q = saved[0], &keys = saved[1], &values = saved[2], &weights = saved[3], &size = saved[4];
    at::Tensor of_weights = at::matmul(gradients[0], values.transpose(-1, -2));
    if (gradients[1].defined()) of_weights.scatter_add_(-1, saved[5], -gradients[1] * size * size);
    const at::Tensor of_scores = at::_softmax_backward_data(of_weights, weights, -1, weights.scalar_type());
    return {at::matmul(of_scores, keys), at::matmul(of_scores.transpose(-1, -2), q),
            at::matmul(weights.transpose(-1, -2), gradients[0]), Variable()};
  }
};

class TrainLolcats : public TrainMechanism {
 public:
  explicit TrainLolcats(const LolcatsOptions& options) : options_(options) {}

  at::Tensor mix(const TrainRows& rows, const std::vector<at::Tensor>& parameters) const override {
    const at::Tensor& q = rows.q;
    const at::Tensor& k = rows.k;
    const at::Tensor& v = rows.v;
    const int64_t tokens = q.size(2), heads = q.size(1), heads_kv = k.size(1), group = options_.group;
    const int64_t sinks = std::min(options_.sinks, tokens), groups = (tokens + group - 1) / group;
    const double scale = 1.0 / std::sqrt(static_cast<double>(q.size(3)));
    const variable_list window =
        WindowSoftmax::apply(grouped_queries(q * scale, heads_kv, group), window_of(k, sinks, groups),
                             window_of(v, sinks, groups), mask(sinks, groups, heads / heads_kv, q.options()));
    at::Tensor mixed = window[0];  // [B, Hk, n, H/Hk * G, D]
    if (options_.linear) {
      const at::Tensor& size = window[1];  // [B, Hk, n, H/Hk * G, 1]
      const auto [numerator, denominator] = linear_part(q, k, v, parameters, sinks);
      mixed = (mixed * size + numerator) / (size + denominator);
    }
    const at::Tensor out = ungrouped_queries(mixed, heads, tokens);
    return options_.taps > 0 ? out + train_conv(v, parameters.back()) : out;
  }

 private:
  // Sink rows, the group before, the group: [B, Hk, n, sinks + 2G, D].
  at::Tensor window_of(const at::Tensor& x, int64_t sinks, int64_t groups) const {
    const at::Tensor rows = grouped(x, options_.group);
    const at::Tensor first =
        x.narrow(2, 0, sinks).unsqueeze(2).expand({x.size(0), x.size(1), groups, sinks, x.size(3)});
    return at::cat({first, shifted(rows, 1), rows}, 3);
  }

  // [n, heads_per_kv * G, sinks + 2G]: -inf for what a row must not see.
  at::Tensor mask(int64_t sinks, int64_t groups, int64_t heads_per_kv, const at::TensorOptions& options) const {
    const int64_t group = options_.group;
    const at::Tensor begin = (at::arange(groups) - 1).mul(group).view({groups, 1, 1});         // of the window
    const at::Tensor row = at::arange(group).repeat({heads_per_kv}).view({1, -1, 1}) + group;  // within the window
    const at::Tensor column = at::arange(2 * group).view({1, 1, 2 * group});
    const at::Tensor window = (column > row).logical_or(begin + column < 0);
    const at::Tensor inside =
        (at::arange(sinks).view({1, 1, sinks}) >= begin).expand({groups, heads_per_kv * group, sinks});
    const at::Tensor hidden = at::cat({inside, window}, 2);
    return at::zeros(hidden.sizes(), options).masked_fill_(hidden, -std::numeric_limits<double>::infinity());
  }

  // What the rows folded two groups back and before add to numerator [B, Hk, n, H/Hk * G, D] and denominator [.., 1].
  std::pair<at::Tensor, at::Tensor> linear_part(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                                const std::vector<at::Tensor>& parameters, int64_t sinks) const {
    const int64_t heads_kv = k.size(1), group = options_.group;
    const at::Tensor &feature_q = parameters[0], &feature_k = parameters[1], &tau = parameters[2], &u = parameters[3];
    // tau + u.q as one more product: [B, H, T, 1]
    const at::Tensor gate = (at::matmul(q, u.unsqueeze(-1)) + tau.view({1, -1, 1, 1})).exp();
    const at::Tensor phi_q = grouped_queries(train_hedgehog(q, feature_q) * gate, heads_kv, group);
    const at::Tensor kept = (at::arange(k.size(2)) >= sinks).to(k.scalar_type()).view({1, 1, -1, 1});
    const at::Tensor phi_k = grouped(train_hedgehog(k, feature_k) * kept, group);  // [B, Hk, n, G, M]
    const at::Tensor s = summed_before(at::matmul(phi_k.transpose(-1, -2), grouped(v, group)), 2);
    const at::Tensor z = summed_before(phi_k.sum(3, true), 2);  // [B, Hk, n, 1, M]
    std::vector<double> weight;                                 // c of each group
    for (int64_t g = 0; g < s.size(2); ++g) weight.push_back(options_.older_weight((g - 1) * group));
    const at::Tensor weighted =
        options_.horizon > 0 ? phi_q * at::tensor(weight, phi_q.options().requires_grad(false)).view({1, 1, -1, 1, 1})
                             : phi_q;
    return {at::matmul(weighted, s), at::matmul(weighted, z.transpose(-1, -2))};
  }

  LolcatsOptions options_;
};

}  // namespace

std::unique_ptr<TrainMechanism> make_train_lolcats(const LolcatsOptions& options) {
  return std::make_unique<TrainLolcats>(options);
}

TrainHalf lolcats_train() {
  return {.make = [](const AttentionOptions& options, const AttentionShape&) {
    return make_train_lolcats(LolcatsOptions::of(options));
  }};
}

TrainHalf window_train() {
  return {.make = [](const AttentionOptions& options, const AttentionShape&) {
    return make_train_lolcats(LolcatsOptions::of_window(options));
  }};
}

}  // namespace espalier
