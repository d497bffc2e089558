#include "attention/mechanisms_train.h"
#include "core/error.h"

namespace espalier {
namespace {

struct Entry {
  const char* name;
  std::unique_ptr<TrainMechanism> (*make)(const AttentionSpec& spec, const AttentionShape& shape);
};

constexpr Entry kMechanisms[] = {
    {"softmax", make_train_softmax}, {"flash_local", make_train_flash_local}, {"flash_global", make_train_flash_global},
    {"conv", make_train_conv},       {"augmented", make_train_augmented},     {"lolcats", make_train_lolcats},
    {"window", make_train_lolcats},
};

}  // namespace

std::unique_ptr<TrainMechanism> make_train_mechanism(const AttentionSpec& spec, const AttentionShape& shape) {
  make_mechanism(spec, shape);  // checks name and options
  for (const Entry& entry : kMechanisms) {
    if (spec.name() == entry.name) return entry.make(spec, shape);
  }
  throw NotSupported(error_text("training", "an attention with a training half", "'" + spec.name() + "'"));
}

}  // namespace espalier
