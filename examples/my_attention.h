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

// Its card, for LoadOptions::more_mechanisms.
inline AttentionCard my_attention() {
  return {.name = "my_attention",
          .summary = "a sum over all rows, features max(x, 0)^2, over its weight",
          .additive = {.form = [](const AttentionOptions&, const AttentionShape& shape) {
            return AdditiveForm{.map = std::make_unique<SquaredRelu>(shape.dim_k),
                                .denominator = {Denominator::kPlus, 1e-6f}};
          }}};
}

}  // namespace espalier
