// FLASH's two parts on LLaMA-style heads (Hua et al. 2022; You et al., ICML 2024). x^ = x / max(|x|, 1e-6),
// g(t) = floor(t / G).
//
//   flash_local(group=64, local=blocked|terraced)
//     y_t = sum_{s<=t, g(s)=g(t)} relu(q^_t.k^_s)^2 v_s              terraced: g(s) >= g(t) - 1
//     State: the rows of the open group (and of the one before it).
//
//   flash_global(group=64, scale=count|groups|none)
//     y_t = q^_t . sum_{g(s)<g(t)} k^_s v_s^T / c_t                  c_t = max(g(t) G, G) for count, max(g(t), 1) for
//                                                                    groups, 1 for none
//     State: a Dk x Dv fold and the rows of two groups. `none` is the paper's and grows without bound with the text.
//
//   flash(group=64, local=blocked|terraced, scale=count|groups|none)
//     flash_local + flash_global (Hua et al. 2022).
//
// Of a span, flash_local sees the whole group (terraced: the groups on both sides, too), and flash_global all T rows,
// c = T for count, ceil(T / G) for groups.
#pragma once

#include <memory>
#include <string>

#include "attention/operator.h"

namespace espalier {

struct FlashLocalOptions {
  int64_t group = kDefaultGroup;
  bool terraced = false;

  static FlashLocalOptions of(const AttentionOptions& options);
};
std::unique_ptr<Mechanism> make_flash_local(const FlashLocalOptions& options, const AttentionShape& shape);

// What the global part is divided by: nothing, the number of closed groups, the number of closed rows; at least 1 or G.
enum class FlashScale { kNone, kGroups, kCount };
struct FlashGlobalOptions {
  int64_t group = kDefaultGroup;
  FlashScale scale = FlashScale::kCount;

  static FlashGlobalOptions of(const AttentionOptions& options);
};
std::unique_ptr<Mechanism> make_flash_global(const FlashGlobalOptions& options, const AttentionShape& shape);

// The options `local`, without or with more choices, and `scale`.
OptionInfo local_option(const std::string& more_choices = "");
OptionInfo scale_option();
FlashScale flash_scale(const AttentionOptions& options);

// c_t of a row with `groups` closed groups before it.
inline int64_t flash_divisor(FlashScale scale, int64_t groups, int64_t group) {
  const int64_t at_least_one = groups > 1 ? groups : 1;
  return scale == FlashScale::kNone ? 1 : scale == FlashScale::kGroups ? at_least_one : at_least_one * group;
}

// Of a span of `rows` rows, all of which are in the sum.
inline int64_t flash_span_divisor(FlashScale scale, int64_t rows, int64_t group) {
  return scale == FlashScale::kNone ? 1 : scale == FlashScale::kGroups ? (rows + group - 1) / group : rows;
}

}  // namespace espalier
