#include <ATen/ATen.h>

#include "attention/augmented/augmented.h"
#include "attention/flash/flash.h"
#include "attention/mechanisms_train.h"
#include "attention/shared/additive_train.h"

namespace espalier {
namespace {

class TrainAugmented : public TrainMechanism {
 public:
  TrainAugmented(const AttentionSpec& spec, const AttentionShape& shape, bool fixed_alpha) : fixed_alpha_(fixed_alpha) {
    const std::string group = "group=" + spec.value("group", "64");
    const std::string local = spec.value("local", "blocked"), global = spec.value("global", "flash_global");
    if (local != "none") {
      local_ = make_train_flash_local(AttentionSpec::parse("flash_local(" + group + ",local=" + local + ")"), shape);
    }
    if (global == "flash_global") {
      const std::string scale = ",scale=" + spec.value("scale", "count");
      global_ = make_train_flash_global(AttentionSpec::parse("flash_global(" + group + scale + ")"), shape);
    } else if (global != "none") {
      global_ = make_train_closed_groups(AttentionSpec::parse(global), shape,
                                         spec.integer("group", 64, kMinGroup, kMaxGroup));
    }
    taps_ = spec.value("taps", "32") != "0";
  }

  at::Tensor mix(const TrainRows& rows, const std::vector<at::Tensor>& parameters) const override {
    at::Tensor sum;
    const auto add = [&](const at::Tensor& part) { sum = sum.defined() ? sum + part : part; };
    if (local_) add(local_->mix(rows, {}));
    if (global_) {
      const auto first = parameters.begin() + (fixed_alpha_ ? 0 : 1), last = parameters.end() - (taps_ ? 1 : 0);
      const at::Tensor part = global_->mix(rows, {first, last});
      add(fixed_alpha_ ? part : parameters[0] * part);
    }
    if (taps_) add(train_conv(rows.v, parameters.back(), rows.span));
    return sum;
  }

  at::Tensor finish(const at::Tensor& mixed) const override { return global_ ? global_->finish(mixed) : mixed; }

 private:
  std::unique_ptr<TrainMechanism> local_, global_;
  bool fixed_alpha_, taps_;
};

}  // namespace

std::unique_ptr<TrainMechanism> make_train_augmented(const AttentionSpec& spec, const AttentionShape& shape) {
  return std::make_unique<TrainAugmented>(spec, shape, false);
}

std::unique_ptr<TrainMechanism> make_train_flash(const AttentionSpec& spec, const AttentionShape& shape) {
  return std::make_unique<TrainAugmented>(flash_as_augmented(spec), shape, true);
}

}  // namespace espalier
