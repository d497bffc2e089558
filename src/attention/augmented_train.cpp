#include <ATen/ATen.h>

#include "attention/augmented.h"
#include "attention/mechanisms_train.h"

namespace espalier {
namespace {

class TrainAugmented : public TrainMechanism {
 public:
  TrainAugmented(const AttentionSpec& spec, const AttentionShape& shape) {
    const std::string group = "group=" + spec.value("group", "64");
    const std::string local = spec.value("local", "blocked");
    if (local != "none") {
      local_ = make_train_flash_local(AttentionSpec::parse("flash_local(" + group + ",local=" + local + ")"), shape);
    }
    if (spec.value("global", "flash_global") != "none") {
      const std::string scale = ",scale=" + spec.value("scale", "count");
      global_ = make_train_flash_global(AttentionSpec::parse("flash_global(" + group + scale + ")"), shape);
    }
    taps_ = spec.value("taps", "32") != "0";
  }

  at::Tensor parallel(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                      const std::vector<at::Tensor>& parameters) const override {
    at::Tensor sum;
    const auto add = [&](const at::Tensor& part) { sum = sum.defined() ? sum + part : part; };
    if (local_) add(local_->parallel(q, k, v, {}));
    if (global_) add(parameters[0] * global_->parallel(q, k, v, {}));
    if (taps_) add(train_conv(v, parameters.back()));
    return sum;
  }

 private:
  std::unique_ptr<TrainMechanism> local_, global_;
  bool taps_;
};

}  // namespace

std::unique_ptr<TrainMechanism> make_train_augmented(const AttentionSpec& spec, const AttentionShape& shape) {
  return std::make_unique<TrainAugmented>(spec, shape);
}

}  // namespace espalier
