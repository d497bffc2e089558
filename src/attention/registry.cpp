#include "attention/augmented/augmented.h"
#include "attention/conv/conv.h"
#include "attention/flash/flash.h"
#include "attention/gau/gau.h"
#include "attention/hedgehog/hedgehog.h"
#include "attention/hybrid/hybrid.h"
#include "attention/linformer/linformer.h"
#include "attention/lolcats/lolcats.h"
#include "attention/operator.h"
#include "attention/shared/additive.h"
#include "attention/shared/decay.h"
#include "attention/shared/elementwise_maps.h"
#include "attention/shared/random_maps.h"
#include "attention/softmax/softmax.h"
#include "attention/transnormer/transnormer.h"
#include "attention/yoso/yoso.h"
#include "core/error.h"

namespace espalier {
namespace {

struct Entry {
  const char* name;
  std::unique_ptr<Mechanism> (*make)(const AttentionSpec& spec, const AttentionShape& shape);
};

// A feature map is all that tells these apart.
struct AdditiveEntry {
  const char* name;
  AdditiveForm (*make)(const AttentionSpec& spec, const AttentionShape& shape);
};

constexpr Entry kMechanisms[] = {
    {"softmax", make_softmax},
    {"flash_local", make_flash_local},
    {"flash_global", make_flash_global},
    {"flash", make_flash},
    {"conv", make_conv},
    {"augmented", make_augmented},
    {"lolcats", make_lolcats},
    {"window", make_window},
    {"transnormer", make_transnormer},
    {"retention", make_retention},
    {"gla", make_gla},
    {"gated_delta", make_gated_delta},
    {"hybrid", make_hybrid},
    {"gau", make_gau},
    {"linformer", make_linformer},
    {"yoso", make_yoso},
};

constexpr AdditiveEntry kAdditive[] = {
    {"linear", make_linear_form},       {"relu", make_relu_form},           {"angular", make_angular_form},
    {"cosformer", make_cosformer_form}, {"performer", make_performer_form}, {"rfa", make_rfa_form},
    {"hedgehog", make_hedgehog_form},
};

}  // namespace

std::unique_ptr<Mechanism> make_mechanism(const AttentionSpec& spec, const AttentionShape& shape,
                                          const std::vector<MechanismEntry>& more) {
  if (shape.heads_per_kv() > kMaxHeadsPerKv) {
    throw NotSupported(error_text("attention '" + spec.text() + "', layer " + std::to_string(shape.layer),
                                  "at most " + std::to_string(kMaxHeadsPerKv) + " query heads on a KV head",
                                  std::to_string(shape.heads_per_kv())));
  }
  for (const MechanismEntry& entry : more) {
    if (spec.name() == entry.name) return entry.make(spec, shape);
  }
  for (const Entry& entry : kMechanisms) {
    if (spec.name() == entry.name) return entry.make(spec, shape);
  }
  for (const AdditiveEntry& entry : kAdditive) {
    if (spec.name() == entry.name) return make_additive(entry.make(spec, shape), shape);
  }
  std::string known;
  for (const std::string& name : mechanism_names()) known += (known.empty() ? "" : ", ") + name;
  for (const MechanismEntry& entry : more) known += ", " + entry.name;
  throw InvalidArgument(error_text("attention", "a name out of " + known, "'" + spec.name() + "'"));
}

std::unique_ptr<Mechanism> make_closed_groups(const AttentionSpec& spec, const AttentionShape& shape, int64_t group) {
  if (spec.name() == "transnormer") return make_additive(make_norm_form(spec, shape), shape, group);
  std::string known = "flash_global, transnormer";
  for (const AdditiveEntry& entry : kAdditive) {
    if (spec.name() == entry.name) return make_additive(entry.make(spec, shape), shape, group);
    known += std::string(", ") + entry.name;
  }
  throw InvalidArgument(error_text("attention, global part", "a name out of none, " + known, "'" + spec.text() + "'"));
}

std::vector<std::string> mechanism_names() {
  std::vector<std::string> names;
  for (const Entry& entry : kMechanisms) names.emplace_back(entry.name);
  for (const AdditiveEntry& entry : kAdditive) names.emplace_back(entry.name);
  return names;
}

}  // namespace espalier
