// The attention of a gated attention unit as FLASH mixes it (Hua et al. 2022, arXiv 2202.10447, section 3; with the
// convolution and castling of You et al., ICML 2024). A query is two, [a | b], and so is a key, [c | e]: the first
// floor(Dk / 2) numbers look inside the group, the others at the groups before it.
//
//   gau(group=256, activation=laplace|relu2, parts=both|local|global, taps=32, castling=no|yes)
//     z_t = sum_{s<=t, g(s)=g(t)} f(a_t.c_s / G + bias(s - t)) v_s  +  b_t . sum_{g(s)<g(t)} e_s v_s^T / G
//     castling: z_t <- x / |x|, x = v_t / 2 + z_t / pi
//     y_t = z_t + conv(v)_t
//   Of a span: all rows of the group, and all T rows instead of the groups before, / T.
//
// f: relu(x)^2 or the Laplace function (core/activation.h). Parameter: conv.weight [H, taps], zero at first, unless
// taps=0. State: a ceil(Dk / 2) x Dv fold and the rows of two groups.
#pragma once

#include "attention/operator.h"

namespace espalier {

struct GauOptions {
  int64_t group, taps;
  Activation activation;
  bool local, global, castling;

  static GauOptions of(const AttentionOptions& options);
};

}  // namespace espalier
