// The attentions that laws and samples on tiny models try: every mechanism, small groups, so that short texts cross
// many borders.
#pragma once

namespace espalier::testing {

inline constexpr const char* kTinyAttentions[] = {
    "softmax",
    "flash_local(group=8)",
    "flash_local(group=12,local=terraced)",
    "flash_global(group=8)",
    "flash_global(group=16,scale=none)",
    "conv(taps=5)",
    "augmented(group=8,taps=4)",
    "augmented(group=12,local=terraced)",
    "augmented(group=64)",
    "window(group=8,sinks=3)",
    "window(group=4,sinks=16)",
    "lolcats(group=8,sinks=2,taps=3)",
    "lolcats(group=12)",
    "lolcats(group=8,horizon=5)",
    "lolcats(group=8,linear=none,sinks=11)",
    "lolcats(group=16,sinks=0)",
    "lolcats(group=64)",
    "flash(group=8)",
    "linear",
    "relu",
    "angular",
    "cosformer(length=4096)",
    "performer(features=24)",
    "rfa(features=12)",
    "hedgehog",
    "transnormer(group=8)",
    "retention",
    "gla",
    "gated_delta",
    "gated_delta(conv=4)",
    "gated_delta(conv=1,activation=none)",
    "yoso(group=8,bits=3,hashes=4)",
    "linformer(group=8,rank=3)",
    "hybrid(group=8,sinks=2)",
    "gau(group=8,taps=3)",
    "augmented(global=performer(features=16,form=hyperbolic),group=8,taps=3)",
    "augmented(global=transnormer,group=16,local=terraced)",
};

}  // namespace espalier::testing
