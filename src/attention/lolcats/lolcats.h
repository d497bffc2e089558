// `lolcats(group=64, sinks=4, taps=32, linear=hedgehog|none, horizon=0)`: softmax over a window and sink rows, hedgehog
// features over everything older, ONE shared denominator (Zhang et al. 2024, arXiv 2410.10254; hedgehog: arXiv
// 2402.04347; sinks: Xiao et al. 2023, arXiv 2309.17453).
//
//        sum_{window, sinks} e^{s-m} v + c e^{tau_h + u_h.q} phi(q).S
//   y = -------------------------------------------------------------- + conv        s = q.k / sqrt(Dk)
//        sum_{window, sinks} e^{s-m}   + c e^{tau_h + u_h.q} phi(q).z
//
// Window: rows of groups g-1 and g. Sinks: the first `sinks` rows once they have left the window; they never enter the
// fold. m: the greatest s of both; the linear part is not rescaled. S = sum phi(k) v^T and z = sum phi(k) over the rows
// of groups <= g-2. c = min(1, horizon / n) with n the rows in S, or 1 for horizon=0: from `horizon` rows on, the older
// text weighs as a whole what it weighed there. Without it a text longer than those of the training drowns the window.
// phi(x) = max([softmax(x W), softmax(-x W)], 1e-12).
// Parameters: feature_q.weight [H, D, F], feature_k.weight [Hk, D, F] (F = D, unit matrices at first),
// linear.tau [H], linear.u [H, D], conv.weight [H, W] (with taps).
//
// `window(group=64, sinks=4, taps=0)` is the same with linear=none: it needs no training.
#pragma once

#include <memory>

#include "attention/operator.h"

namespace espalier {

// As default, those of `window`.
struct LolcatsOptions {
  int64_t group = kDefaultGroup, sinks = 4, taps = 0;
  bool linear = false;
  int64_t horizon = 0;

  // c of a row whose window begins at `position`.
  double older_weight(int64_t position) const {
    const int64_t rows = position - sinks;
    return horizon > 0 && rows > horizon ? static_cast<double>(horizon) / static_cast<double>(rows) : 1.0;
  }

  static LolcatsOptions of(const AttentionOptions& options);
  static LolcatsOptions of_window(const AttentionOptions& options);
};
std::unique_ptr<Mechanism> make_lolcats(const LolcatsOptions& options, const AttentionShape& shape);

// The option `sinks`, also of those who have a window beside other things.
OptionInfo sinks_option();

}  // namespace espalier
