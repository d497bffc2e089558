#include "attention/augmented.h"
#include "attention/conv.h"
#include "attention/flash.h"
#include "attention/lolcats.h"
#include "attention/operator.h"
#include "attention/softmax.h"
#include "core/error.h"

namespace espalier {
namespace {

struct Entry {
  const char* name;
  std::unique_ptr<Mechanism> (*make)(const AttentionSpec& spec, const AttentionShape& shape);
};

constexpr Entry kMechanisms[] = {
    {"softmax", make_softmax}, {"flash_local", make_flash_local}, {"flash_global", make_flash_global},
    {"conv", make_conv},       {"augmented", make_augmented},     {"lolcats", make_lolcats},
    {"window", make_window},
};

}  // namespace

std::unique_ptr<Mechanism> make_mechanism(const AttentionSpec& spec, const AttentionShape& shape) {
  std::string known;
  for (const Entry& entry : kMechanisms) {
    if (spec.name() == entry.name) return entry.make(spec, shape);
    known += (known.empty() ? "" : ", ") + std::string(entry.name);
  }
  throw InvalidArgument(error_text("attention", "a name out of " + known, "'" + spec.name() + "'"));
}

std::vector<std::string> mechanism_names() {
  std::vector<std::string> names;
  for (const Entry& entry : kMechanisms) names.emplace_back(entry.name);
  return names;
}

}  // namespace espalier
