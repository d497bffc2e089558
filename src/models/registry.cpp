#include "models/registry.h"

#include <array>
#include <string>

#include "core/error.h"
#include "models/encoder_decoder.h"
#include "models/families.h"
#include "models/step_model.h"

namespace espalier {
namespace {

template <class Family>
constexpr ModelFamily family() {
  if constexpr (EncoderDecoderFamily<Family>) {
    return {Family::kName, load_encoder_decoder<Family>, Family::encoder_config};
  } else {
    return {Family::kName, load_step_model<Family>};
  }
}

template <class... Family>
constexpr auto all(FamilyList<Family...>) {
  return std::array{family<Family>()...};
}

constexpr auto kFamilies = all(Families());

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
