#include "attention/hybrid/hybrid.h"

#include <ATen/ATen.h>

#include "attention/gated_delta/train.h"
#include "attention/lolcats/train.h"

namespace espalier {
namespace {

class TrainHybrid : public TrainMechanism {
 public:
  explicit TrainHybrid(const HybridOptions& options)
      : window_(make_train_lolcats(options.window)), memory_(make_train_gated_delta(options.memory)) {}

  at::Tensor mix(const TrainRows& rows, const std::vector<at::Tensor>& parameters) const override {
    const at::Tensor far = memory_->mix(rows, {parameters.begin() + 1, parameters.end()});
    return window_->mix(rows, {}) + parameters[0].view({1, -1, 1, 1}) * far;
  }

 private:
  std::unique_ptr<TrainMechanism> window_, memory_;
};

}  // namespace

TrainHalf hybrid_train() {
  return {.make = [](const AttentionOptions& options, const AttentionShape&) {
    return std::make_unique<TrainHybrid>(HybridOptions::of(options));
  }};
}

}  // namespace espalier
