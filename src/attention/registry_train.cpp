#include <utility>
#include <vector>

#include "attention/mechanism_train.h"
#include "attention/shared/additive_train.h"
#include "core/error.h"

namespace espalier {

#define MECHANISM(x) TrainHalf x##_train();
#include "attention/mechanisms.def"

namespace {

TrainHalf find_half(const std::string& name) {
#define MECHANISM(x) \
  if (name == #x) return x##_train();
#include "attention/mechanisms.def"
  throw NotSupported(error_text("training", "an attention with a training half", "'" + name + "'"));
}

std::unique_ptr<TrainMechanism> additive_half(const TrainHalf& half, const AttentionOptions& options,
                                              const AttentionShape& shape, int64_t closed_group) {
  return make_train_additive(half.features(options, shape), options.card().additive.form(options, shape), closed_group);
}

}  // namespace

at::Tensor TrainMechanism::finish(const at::Tensor& mixed) const {
  return mixed;
}

at::Tensor TrainMechanism::parallel(const TrainRows& rows, const std::vector<at::Tensor>& parameters) const {
  return finish(mix(rows, parameters));
}

std::unique_ptr<TrainMechanism> make_train_mechanism(const AttentionSpec& spec, const AttentionShape& shape) {
  make_mechanism(spec, shape);  // checks what depends on the shape, too
  const TrainHalf half = find_half(spec.name());
  const AttentionOptions options = checked_options(spec);
  return half.make ? half.make(options, shape) : additive_half(half, options, shape, 0);
}

std::unique_ptr<TrainMechanism> make_train_closed_groups(const AttentionSpec& spec, const AttentionShape& shape,
                                                         int64_t group) {
  make_closed_groups(spec, shape, group);  // checks that it is additive
  return additive_half(find_half(spec.name()), checked_options(spec), shape, group);
}

}  // namespace espalier
