#include "attention/mechanisms_train.h"
#include "attention/shared/additive_train.h"
#include "core/error.h"

namespace espalier {
namespace {

struct Entry {
  const char* name;
  std::unique_ptr<TrainMechanism> (*make)(const AttentionSpec& spec, const AttentionShape& shape);
};

struct AdditiveEntry {
  const char* name;
  TrainAdditiveForm (*make)(const AttentionSpec& spec, const AttentionShape& shape);
};

constexpr Entry kMechanisms[] = {
    {"softmax", make_train_softmax},
    {"flash_local", make_train_flash_local},
    {"flash_global", make_train_flash_global},
    {"flash", make_train_flash},
    {"conv", make_train_conv},
    {"augmented", make_train_augmented},
    {"lolcats", make_train_lolcats},
    {"window", make_train_lolcats},
    {"transnormer", make_train_transnormer},
    {"retention", make_train_retention},
    {"gla", make_train_gla},
    {"gated_delta", make_train_gated_delta},
    {"hybrid", make_train_hybrid},
    {"gau", make_train_gau},
    {"yoso", make_train_yoso},
    {"linformer", make_train_linformer},
};

constexpr AdditiveEntry kAdditive[] = {
    {"linear", make_train_linear_form},       {"relu", make_train_relu_form},
    {"angular", make_train_angular_form},     {"cosformer", make_train_cosformer_form},
    {"performer", make_train_performer_form}, {"rfa", make_train_rfa_form},
    {"hedgehog", make_train_hedgehog_form},
};

}  // namespace

std::unique_ptr<TrainMechanism> make_train_mechanism(const AttentionSpec& spec, const AttentionShape& shape) {
  make_mechanism(spec, shape);  // checks name and options
  for (const Entry& entry : kMechanisms) {
    if (spec.name() == entry.name) return entry.make(spec, shape);
  }
  for (const AdditiveEntry& entry : kAdditive) {
    if (spec.name() == entry.name) return make_train_additive(entry.make(spec, shape));
  }
  throw NotSupported(error_text("training", "an attention with a training half", "'" + spec.name() + "'"));
}

std::unique_ptr<TrainMechanism> make_train_closed_groups(const AttentionSpec& spec, const AttentionShape& shape,
                                                         int64_t group) {
  make_closed_groups(spec, shape, group);  // checks name and options
  for (const AdditiveEntry& entry : kAdditive) {
    if (spec.name() == entry.name) return make_train_additive(entry.make(spec, shape), group);
  }
  return make_train_additive(make_train_norm_form(spec, shape), group);
}

}  // namespace espalier
