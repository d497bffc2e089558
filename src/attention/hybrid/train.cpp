#include "attention/hybrid/hybrid.h"

#include <ATen/ATen.h>

#include "attention/mechanisms_train.h"

namespace espalier {
namespace {

class TrainHybrid : public TrainMechanism {
 public:
  TrainHybrid(const AttentionSpec& spec, const AttentionShape& shape)
      : window_(make_train_lolcats(hybrid_window(spec), shape)),
        memory_(make_train_gated_delta(hybrid_memory(spec), shape)) {}

  at::Tensor mix(const TrainRows& rows, const std::vector<at::Tensor>& parameters) const override {
    const at::Tensor far = memory_->mix(rows, {parameters.begin() + 1, parameters.end()});
    return window_->mix(rows, {}) + parameters[0].view({1, -1, 1, 1}) * far;
  }

 private:
  std::unique_ptr<TrainMechanism> window_, memory_;
};

}  // namespace

std::unique_ptr<TrainMechanism> make_train_hybrid(const AttentionSpec& spec, const AttentionShape& shape) {
  return std::make_unique<TrainHybrid>(spec, shape);
}

}  // namespace espalier
