// How the kernel files fill one instruction set's table. Each file is compiled once per target by Highway's
// foreach_target and ends with ESPALIER_FILL_TABLE, which picks the target's functions.
#pragma once

#include "kernels/kernels.h"

// A build for the fuzzers has the baseline's kernels alone: it multiplies little, and the others take its compiler
// minutes.
#if defined(__x86_64__) && !defined(ESPALIER_BASELINE_ONLY)
#define ESPALIER_X86_KERNELS 1
#endif

namespace espalier {

void fill_gemm(Isa isa, Kernels& kernels);
void fill_gemm_dot(Kernels& kernels);        // gemm_bf16 of kAvx512Bf16
void fill_gemm_int_pairs(Kernels& kernels);  // quantized products from kAvx2 on,
void fill_gemm_int_dot(Kernels& kernels);    // and from kAvx512 on where it has vpdpbusd
void fill_gemm_amx(Kernels& kernels);        // gemm_bf16 of kAmx, from that of kAvx512Bf16
bool has_amx();                              // of bf16, and the system lets us
void fill_rows(Isa isa, Kernels& kernels);
void fill_attention(Isa isa, Kernels& kernels);

// The first lanes of a panel, as many as exist, one bit each.
inline uint16_t existing(int64_t lanes) {
  return static_cast<uint16_t>(lanes >= kPanel ? 0xffff : (1 << lanes) - 1);
}

// Which cache the dot products' tiles ask for memory into, as __builtin_prefetch() counts: 3 the first level, 2 the
// second. Zen's first level has too few requests under way to take a stream.
// Sanitizers' builds know one: tiles for both would take them minutes.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define ESPALIER_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define ESPALIER_SANITIZED 1
#endif
#endif
#ifdef ESPALIER_SANITIZED
constexpr int kIntoFirstLevel = 3, kIntoSecondLevel = 3;
#else
constexpr int kIntoFirstLevel = 3, kIntoSecondLevel = 2;
#endif
bool prefetches_into_second_level();

}  // namespace espalier

// Targets by name, so that what a newer Highway knows besides (SSE2 as a baseline, NEON, SVE) is never compiled: plain
// lanes, which are the baseline whatever the compiler's flags allow, and on x86-64 AVX2 with FMA and AVX-512.
#define HWY_BASELINE_TARGETS HWY_BASELINE_SCALAR
#ifdef ESPALIER_X86_KERNELS
#define HWY_DISABLED_TARGETS (~(HWY_BASELINE_SCALAR | HWY_AVX2 | HWY_AVX3))
#else
#define HWY_DISABLED_TARGETS (~HWY_BASELINE_SCALAR)
#endif

// Stands after the last target, where HWY_NAMESPACE is the baseline's.
#ifdef ESPALIER_X86_KERNELS
#define ESPALIER_FILL_TABLE(name, fill)                      \
  static_assert(HWY_NAMESPACE::kParts == 16, "plain lanes"); \
  void name(Isa isa, Kernels& kernels) {                     \
    switch (isa) {                                           \
      case Isa::kScalar:                                     \
        return HWY_NAMESPACE::fill(kernels);                 \
      case Isa::kAvx2:                                       \
        return N_AVX2::fill(kernels);                        \
      case Isa::kAvx512:                                     \
      case Isa::kAvx512Bf16:                                 \
      case Isa::kAmx:                                        \
        return N_AVX3::fill(kernels);                        \
    }                                                        \
  }
#else
#define ESPALIER_FILL_TABLE(name, fill)                      \
  static_assert(HWY_NAMESPACE::kParts == 16, "plain lanes"); \
  void name(Isa, Kernels& kernels) {                         \
    HWY_NAMESPACE::fill(kernels);                            \
  }
#endif
