// An attention mechanism outside the tree: additive, with phi(x) = max(x, 0)^2. A feature map is all that has to be
// written; state, chunks, trees, batches and saving come with it.
#pragma once

#include <algorithm>
#include <memory>

#include "attention/additive.h"

namespace espalier {

class SquaredRelu : public FeatureMap {
 public:
  explicit SquaredRelu(int64_t dim) : dim_(dim) {}
  int64_t features() const override { return dim_; }
  void query(const Kernels&, const float* x, int, int64_t, float* phi) const override { map(x, phi); }
  void key(const Kernels&, const float* x, int, int64_t, float* phi) const override { map(x, phi); }

 private:
  void map(const float* x, float* phi) const {
    for (int64_t i = 0; i < dim_; ++i) phi[i] = std::max(x[i], 0.0f) * std::max(x[i], 0.0f);
  }
  int64_t dim_;
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
