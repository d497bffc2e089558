#include "attention/augmented/train.h"

#include <ATen/ATen.h>

#include "attention/conv/train.h"
#include "attention/flash/train.h"
#include "attention/shared/additive_train.h"

namespace espalier {
namespace {

class TrainAugmented : public TrainMechanism {
 public:
  TrainAugmented(const AugmentedOptions& options, const AttentionShape& shape)
      : has_alpha_(options.alpha), has_taps_(options.taps > 0) {
    if (options.local) local_ = make_train_flash_local(*options.local);
    if (options.flash_global) global_ = make_train_flash_global(*options.flash_global);
    if (options.additive) global_ = make_train_closed_groups(*options.additive, shape, options.group);
  }

  at::Tensor mix(const TrainRows& rows, const std::vector<at::Tensor>& parameters) const override {
    at::Tensor sum;
    const auto add = [&](const at::Tensor& part) { sum = sum.defined() ? sum + part : part; };
    if (local_) add(local_->mix(rows, {}));
    if (global_) {
      const auto first = parameters.begin() + (has_alpha_ ? 1 : 0), last = parameters.end() - (has_taps_ ? 1 : 0);
      const at::Tensor part = global_->mix(rows, {first, last});
      add(has_alpha_ ? parameters[0] * part : part);
    }
    if (has_taps_) add(train_conv(rows.v, parameters.back(), rows.span));
    return sum;
  }

  at::Tensor finish(const at::Tensor& mixed) const override { return global_ ? global_->finish(mixed) : mixed; }

 private:
  std::unique_ptr<TrainMechanism> local_, global_;
  bool has_alpha_, has_taps_;
};

}  // namespace

std::unique_ptr<TrainMechanism> make_train_augmented(const AugmentedOptions& options, const AttentionShape& shape) {
  return std::make_unique<TrainAugmented>(options, shape);
}

TrainHalf augmented_train() {
  return {.make = [](const AttentionOptions& options, const AttentionShape& shape) {
    return make_train_augmented(AugmentedOptions::of(options), shape);
  }};
}

}  // namespace espalier
