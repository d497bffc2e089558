#include "models/registry.h"

#include <string>

#include "core/error.h"
#include "models/llama_step.h"

namespace espalier {
namespace {

constexpr ModelFamily kFamilies[] = {
    {"llama", load_llama_step},
};

}  // namespace

const ModelFamily& model_family(std::string_view name) {
  std::string known;
  for (const ModelFamily& family : kFamilies) {
    if (family.name == name) return family;
    known += (known.empty() ? "" : ", ") + std::string(family.name);
  }
  throw NotSupported(error_text("model", "a family out of " + known, "'" + std::string(name) + "'"));
}

}  // namespace espalier
