// An attention mechanism outside the tree: additive, with phi(x) = max(x, 0)^2. A feature map is all that has to be
// written; state, chunks, trees, batches and saving come with it.
#pragma once

#include <algorithm>
#include <memory>

#include "attention/shared/additive.h"

namespace espalier {

class SquaredRelu : public SharedMap {
 public:
  using SharedMap::SharedMap;

 private:
  void map(const Kernels&, const float* x, float* phi) const override {
    for (int64_t i = 0; i < dim_; ++i) phi[i] = std::max(x[i], 0.0f) * std::max(x[i], 0.0f);
  }
};

// Under the name "my_attention", for LoadOptions::more_mechanisms.
inline MechanismEntry my_attention() {
  return {"my_attention", [](const AttentionSpec& spec, const AttentionShape& shape) {
            spec.reject_unknown("");
            AdditiveForm form{.map = std::make_unique<SquaredRelu>(shape.dim_k),
                              .denominator = {Denominator::kPlus, 1e-6f}};
            return make_additive(std::move(form), shape);
          }};
}

}  // namespace espalier
