// Additive mechanisms (attention/shared/additive.h), training half: a form's features of whole sequences.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <utility>

#include "attention/mechanism_train.h"
#include "attention/shared/additive.h"

namespace espalier {

struct TrainAdditiveForm {
  // q [B, H, T, D], k [B, Hk, T, D], the mechanism's parameters -> phi(q) [B, H, T, M], phi(k) [B, Hk, T, M].
  std::function<std::pair<at::Tensor, at::Tensor>(const at::Tensor& q, const at::Tensor& k,
                                                  const std::vector<at::Tensor>& parameters)>
      map;
  Denominator denominator;
  bool rms = false;
};

TrainAdditiveForm make_train_linear_form(const AttentionSpec& spec, const AttentionShape& shape);
TrainAdditiveForm make_train_relu_form(const AttentionSpec& spec, const AttentionShape& shape);
TrainAdditiveForm make_train_angular_form(const AttentionSpec& spec, const AttentionShape& shape);
TrainAdditiveForm make_train_cosformer_form(const AttentionSpec& spec, const AttentionShape& shape);
TrainAdditiveForm make_train_performer_form(const AttentionSpec& spec, const AttentionShape& shape);
TrainAdditiveForm make_train_rfa_form(const AttentionSpec& spec, const AttentionShape& shape);
TrainAdditiveForm make_train_hedgehog_form(const AttentionSpec& spec, const AttentionShape& shape);
TrainAdditiveForm make_train_norm_form(const AttentionSpec& spec, const AttentionShape& shape);

std::unique_ptr<TrainMechanism> make_train_additive(TrainAdditiveForm form, int64_t closed_group = 0);
// The training half of make_closed_groups().
std::unique_ptr<TrainMechanism> make_train_closed_groups(const AttentionSpec& spec, const AttentionShape& shape,
                                                         int64_t group);

}  // namespace espalier
