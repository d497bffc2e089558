// Additive mechanisms (attention/shared/additive.h), training half.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <utility>
#include <vector>

#include "attention/mechanism_train.h"
#include "attention/shared/additive.h"

namespace espalier {

// `form` says what the sums are divided by.
std::unique_ptr<TrainMechanism> make_train_additive(TrainFeatures features, const AdditiveForm& form,
                                                    int64_t closed_group = 0);
// The training half of make_closed_groups().
std::unique_ptr<TrainMechanism> make_train_closed_groups(const AttentionSpec& spec, const AttentionShape& shape,
                                                         int64_t group);

// The same map for queries and keys, without parameters.
template <class Map>
TrainFeatures same_features(Map map) {
  return [map](const at::Tensor& q, const at::Tensor& k, const std::vector<at::Tensor>&) {
    return std::pair<at::Tensor, at::Tensor>(map(q), map(k));
  };
}

}  // namespace espalier
