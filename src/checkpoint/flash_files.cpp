// FLASH transformers in PyTorch's form (lucidrains/FLASH-pytorch, and You et al.'s with a convolution): config.json
// holds the constructor's arguments, the tensors have the module's names.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "checkpoint/family_files.h"
#include "checkpoint/tensor_views.h"
#include "core/error.h"

namespace espalier {
namespace {

constexpr int64_t kRotaryDim = 32;

// Pairs of neighbours in the rotated channels become halves.
std::vector<int64_t> channels_in_halves(int64_t channels) {
  const int64_t rotated = std::min(kRotaryDim, channels), half = rotated / 2;
  std::vector<int64_t> order(static_cast<size_t>(channels));
  std::iota(order.begin(), order.end(), 0);
  for (int64_t i = 0; i < half; ++i) {
    order[static_cast<size_t>(i)] = 2 * i;
    order[static_cast<size_t>(half + i)] = 2 * i + 1;
  }
  return order;
}

ModelConfig read_config(const ConfigJson& json) {
  ModelConfig config;
  // In both forms what a row gives changes with the rows after it.
  json.require_flag("square", false);
  json.require_flag("softmax", false);
  json.require_flag("reduce_group_non_causal_attn", true);
  const std::string norm = json.text("norm_type", "scalenorm");
  json.require(norm == "scalenorm" || norm == "layernorm", "norm_type", "scalenorm or layernorm", "'" + norm + "'");
  config.scale_norm = norm == "scalenorm";
  config.norm_eps = 1e-5;
  config.vocab_size = json.size("num_tokens", -1, 1 << 24);
  config.hidden_size = json.size("dim", -1, 1 << 20);
  config.num_hidden_layers = json.size("depth", -1, 4096);
  config.num_attention_heads = config.num_key_value_heads = 1;
  const int64_t roles = json.size("query_key_dim", 128, 4096);
  config.head_dim = 2 * roles;
  config.rotary_dim = std::min(kRotaryDim, roles);
  const double values = static_cast<double>(config.hidden_size) * json.number("expansion_factor", 2.0);
  if (!(values >= 1 && values <= (1 << 20))) {
    throw CorruptFile(
        error_text(json.where("expansion_factor"), "a factor that gives 1 to 2^20 channels", std::to_string(values)));
  }
  config.value_dim = static_cast<int64_t>(values);
  config.bidirectional = !json.flag("causal", false);
  config.token_shift = json.flag("shift_tokens", true);
  config.max_position_embeddings = json.size("max_seq_len", 1024, int64_t{1} << 32);  // of training: there is no end
  config.relative_bias_buckets = 32;
  config.relative_bias_reach = 128;
  config.relative_bias_scale = std::sqrt(static_cast<double>(roles));
  if (config.hidden_size % 2 != 0 || roles % 2 != 0) {
    throw NotSupported(error_text(json.where("dim"), "an even dim and query_key_dim",
                                  std::to_string(config.hidden_size) + " and " + std::to_string(roles)));
  }
  const bool local = json.flag("local_", true), global = json.flag("global_", true), conv = json.flag("conv", false);
  json.require(local || global, "local_", "local_ or global_", "neither");
  const int64_t kernel = json.size("kernel", 63, 511);
  config.set_attention("gau(group=" + std::to_string(json.size("group_size", 256, 4096)) +
                       ",activation=" + (json.flag("laplace_attn_fn", false) ? "laplace" : "relu2") + ",parts=" +
                       (local && global ? "both"
                        : local         ? "local"
                                        : "global") +
                       ",taps=" + std::to_string(conv ? kernel / 2 + 1 : 0) +
                       // The original casts away castling where there is no convolution.
                       ",castling=" + (conv && json.flag("castling", false) ? "yes" : "no") + ")");
  config.attention_trained = true;
  return config;
}

std::shared_ptr<const TensorSource> view_tensors(std::shared_ptr<const TensorSource> tensors,
                                                 const ModelConfig& config) {
  // Files that were written from the wrapper that trains it have the prefix.
  const std::string stored = tensors->find("net.token_emb.weight") ? "net." : "";
  const int64_t roles = config.head_dim / 2;
  const std::vector<int64_t> order = channels_in_halves(roles);
  std::map<std::string, TensorView> views;
  for (const char* name : {"token_emb.weight", "abs_pos_emb.scale", "to_logits.0.weight", "to_logits.0.bias",
                           "to_logits.1.weight", "to_logits.1.bias"}) {
    views[name] = {.stored = stored + name};
  }
  for (int64_t l = 0; l < config.num_hidden_layers; ++l) {
    const std::string layer = "layers." + std::to_string(l) + ".";
    const auto same = [&](const std::string& name) { views[layer + name] = {.stored = stored + layer + name}; };
    for (const char* name : {"norm.g", "norm.weight", "norm.bias", "to_out.weight", "to_out.bias",
                             "rel_pos_bias.relative_attention_bias.weight"}) {
      same(name);
    }
    for (const char* kind : {".weight", ".bias"}) {
      views[layer + "v_proj" + kind] = {.stored = stored + layer + "to_hidden.0" + kind, .part = 0, .parts = 2};
      views[layer + "gate_proj" + kind] = {.stored = stored + layer + "to_hidden.0" + kind, .part = 1, .parts = 2};
    }
    views[layer + "qk_proj.weight"] = {.stored = stored + layer + "to_qk.0.weight",
                                       .pieces = roles,
                                       .order = order,
                                       .shape = {roles, config.hidden_size}};
    views[layer + "qk_proj.bias"] = {
        .stored = stored + layer + "to_qk.0.bias", .pieces = roles, .order = order, .shape = {roles}};
    // Roles come as quad_q, lin_q, quad_k, lin_k.
    const auto role = [&](const std::string& name, const std::string& own, int64_t first) {
      TensorView view{.stored = stored + layer + "qk_offset_scale." + own, .pieces = 4 * roles, .shape = {2 * roles}};
      for (int64_t r = first; r < first + 2; ++r) {
        for (const int64_t channel : order) view.order.push_back(r * roles + channel);
      }
      views[layer + name] = view;
    };
    role("q_scale", "gamma", 0);
    role("q_shift", "beta", 0);
    role("k_scale", "gamma", 2);
    role("k_shift", "beta", 2);
    // [1, 1, kernel, 1], of which the original zeroes all taps behind the middle.
    const std::string conv = stored + layer + "dwconv.weight";
    if (const TensorInfo* info = tensors->find(conv)) {
      TensorView view{.stored = conv, .pieces = info->elements(), .shape = {1, info->elements() / 2 + 1}};
      view.order.resize(static_cast<size_t>(view.shape[1]));
      std::iota(view.order.begin(), view.order.end(), 0);
      views["model.layers." + std::to_string(l) + ".self_attn.conv.weight"] = view;
    }
  }
  return std::make_shared<TensorViews>(std::move(tensors), views);
}

}  // namespace

FamilyFiles flash_files() {
  return {read_config, view_tensors};
}

}  // namespace espalier
