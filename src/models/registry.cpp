#include "models/registry.h"

#include <string>

#include "core/error.h"
#include "models/bert.h"
#include "models/encoder_decoder.h"
#include "models/flash.h"
#include "models/gpt2.h"
#include "models/llama.h"
#include "models/step_model.h"
#include "models/t5.h"

namespace espalier {
namespace {

constexpr ModelFamily kFamilies[] = {
    {"llama", load_step_model<Llama>}, {"gpt2", load_step_model<Gpt2>},
    {"bert", load_step_model<Bert>},   {"t5", load_encoder_decoder<T5>, T5::encoder_config},
    {"flash", load_step_model<Flash>},
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
