// Tiles of products of 8- and 4-bit weights by AVX2's sums of two products of bytes (vpmaddubsw), for processors
// without dot products of four; see kernels/quantized.h for what they compute.
//
// The instruction's sums have 16 bits and saturate. They have room for what is computed here: of 4 bits for a lane's
// whole group, 16 products of at most 15 * 127; of 8 bits for two products of at most 128 * 127, whose signs the inputs
// take over.
#include "kernels/quantized.h"
#include "kernels/tables.h"

#ifdef ESPALIER_X86_KERNELS
#include <immintrin.h>

#include <algorithm>
#include <cstddef>
#include <cstring>

#define ESPALIER_INT_PAIRS [[gnu::target("avx2,fma,f16c")]]

namespace espalier {
namespace {

constexpr int kMostRows = 6;
constexpr int kLanes = 8;  // outputs of a register: half a panel

// The first lanes of half a panel, as many as exist.
ESPALIER_INT_PAIRS inline __m256i existing_lanes(int64_t lanes) {
  const auto count = static_cast<int>(std::clamp<int64_t>(lanes, 0, kLanes));
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

// Here and now: g++ would load a whole group's inputs first and add its products up in another order, and keep them in
// memory for want of registers.
ESPALIER_INT_PAIRS inline void keep(__m256i& sum) {
  asm volatile("" : "+x"(sum)::"memory");
}

ESPALIER_INT_PAIRS inline __m256i four_inputs(const int8_t* b) {
  int four;
  std::memcpy(&four, b, sizeof(four));
  return _mm256_set1_epi32(four);
}

// sum_k (q - zero) b of a group's 32 inputs, for 8 outputs and each row.
template <int kRows>
ESPALIER_INT_PAIRS inline void dot_8_bits(__m256i (&dot)[kRows], const std::byte* weights, const InputGroup* const* x) {
  const __m256i ones = _mm256_set1_epi16(1), zero = _mm256_set1_epi8(static_cast<char>(kInt8Format.zero));
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) dot[r] = _mm256_setzero_si256();
#pragma GCC unroll 8
  for (int line = 0; line < 8; ++line) {
    const __m256i q = _mm256_xor_si256(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(weights + line * 64)), zero);
    const __m256i size = _mm256_abs_epi8(q);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const __m256i b = _mm256_sign_epi8(four_inputs(x[r]->b + line * 4), q);
      dot[r] = _mm256_add_epi32(dot[r], _mm256_madd_epi16(_mm256_maddubs_epi16(size, b), ones));
      keep(dot[r]);
    }
  }
}

template <int kRows, bool kStarts>
ESPALIER_INT_PAIRS inline void dot_4_bits(__m256i (&dot)[kRows], const std::byte* weights, const InputGroup* const* x) {
  const __m256i low = _mm256_set1_epi8(15), ones = _mm256_set1_epi16(1);
#pragma GCC unroll 8
  for (int line = 0; line < 4; ++line) {
    const __m256i packed = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(weights + line * 64));
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      const __m256i q = _mm256_and_si256(half == 0 ? packed : _mm256_srli_epi16(packed, 4), low);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const __m256i pairs = _mm256_maddubs_epi16(q, four_inputs(x[r]->b + (line + half * 4) * 4));
        dot[r] = line == 0 && half == 0 ? pairs : _mm256_add_epi16(dot[r], pairs);
        keep(dot[r]);
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    dot[r] = _mm256_madd_epi16(dot[r], ones);
    if constexpr (kStarts) dot[r] = _mm256_add_epi32(dot[r], _mm256_set1_epi32(x[r]->start));
  }
}

ESPALIER_INT_PAIRS inline __m256 halves(const std::byte* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}

template <int kRows, int kBits, bool kMinimum>
ESPALIER_INT_PAIRS void pair_tile(const GemmTile& tile, int64_t panel) {
  constexpr QuantizedFormat kFormat{kBits, 0, kMinimum};
  const std::byte* block = static_cast<const std::byte*>(tile.weights) + panel * tile.panel_stride;
  const int64_t output = panel * kPanel;
  const __m256i lanes[2] = {existing_lanes(tile.outputs - output), existing_lanes(tile.outputs - output - kLanes)};
  __m256 sum[2][kRows];
#pragma GCC unroll 2
  for (int half = 0; half < 2; ++half) {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const float* y = tile.y + r * tile.y_stride + output + half * kLanes;
      sum[half][r] = tile.continues ? _mm256_maskload_ps(y, lanes[half]) : _mm256_setzero_ps();
    }
  }
  const InputGroup* x[kRows];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    x[r] = reinterpret_cast<const InputGroup*>(static_cast<const char*>(tile.x) + r * tile.x_depth) +
           tile.begin / kScaleGroup;
  }
  const int64_t step = tile.prefetch_step;
  const char* ahead = tile.prefetch + panel * (tile.panel_stride / 64 * step);
  for (int64_t done = 0; done < tile.depth; done += kSuperblock) {
    for (int64_t line = 0; line < kFormat.superblock_bytes() / 64; ++line)
      __builtin_prefetch(ahead + line * step, 0, 3);
    ahead += kFormat.superblock_bytes() / 64 * step;
    for (int64_t group = 0; group < 2; ++group) {
      const std::byte* weights = block + kFormat.header_bytes() + group * kFormat.group_bytes();
      const std::byte* header = block + group * 32;
#pragma GCC unroll 2
      for (int half = 0; half < 2; ++half) {
        __m256i dot[kRows];
        if constexpr (kBits == 8) {
          dot_8_bits<kRows>(dot, weights + half * 32, x);
        } else {
          dot_4_bits<kRows, !kMinimum>(dot, weights + half * 32, x);
        }
        const __m256 d = halves(header + half * 16);
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
          const __m256 factor = _mm256_mul_ps(d, _mm256_set1_ps(x[r]->scale));
          sum[half][r] = _mm256_fmadd_ps(factor, _mm256_cvtepi32_ps(dot[r]), sum[half][r]);
        }
        if constexpr (kMinimum) {
          const __m256 m = halves(header + 64 + half * 16);
#pragma GCC unroll 8
          for (int r = 0; r < kRows; ++r) sum[half][r] = _mm256_fmadd_ps(m, _mm256_set1_ps(x[r]->sum), sum[half][r]);
        }
      }
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) ++x[r];
    }
    block += kFormat.superblock_bytes();
  }
#pragma GCC unroll 2
  for (int half = 0; half < 2; ++half) {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      _mm256_maskstore_ps(tile.y + r * tile.y_stride + output + half * kLanes, lanes[half], sum[half][r]);
    }
  }
}

template <int kBits, bool kMinimum, int kRows = 1>
void pair_tiles(const GemmTile& tile) {
  if (tile.rows == kRows) {
    for (int64_t panel = 0; panel < tile.panels; ++panel) pair_tile<kRows, kBits, kMinimum>(tile, panel);
    return;
  }
  if constexpr (kRows < kMostRows) pair_tiles<kBits, kMinimum, kRows + 1>(tile);
}

}  // namespace

void fill_gemm_int_pairs(Kernels& kernels) {
  for (Gemm* gemm : {&kernels.gemm_int8, &kernels.gemm_int4, &kernels.gemm_int4_min}) {
    gemm->tile_rows = gemm->stream_rows = kMostRows;
  }
  kernels.gemm_int8.tile = pair_tiles<8, false>;
  kernels.gemm_int4.tile = pair_tiles<4, false>;
  kernels.gemm_int4_min.tile = pair_tiles<4, true>;
}

}  // namespace espalier

#else

namespace espalier {
void fill_gemm_int_pairs(Kernels&) {}
}  // namespace espalier

#endif
