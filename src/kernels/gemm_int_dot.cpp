// Tiles of products of 8- and 4-bit weights by AVX-512's dot products of four bytes (vpdpbusd); see
// kernels/quantized.h for what they compute.
#include "kernels/quantized.h"
#include "kernels/tables.h"

#ifdef ESPALIER_X86_KERNELS
#include <immintrin.h>

#include <algorithm>
#include <cstddef>
#include <limits>

#define ESPALIER_INT_DOT [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")]]

namespace espalier {
namespace {

// 12 rows of integer and of float sums, weights, a scale and an input fill 27 registers.
constexpr int kMostRows = 12;

ESPALIER_INT_DOT inline __m512 halves(const std::byte* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}

enum class Reduce { kSum, kGreatest };

template <Reduce kReduce>
ESPALIER_INT_DOT inline __m512i reduce(__m512i a, __m512i b) {
  return kReduce == Reduce::kSum ? _mm512_add_epi32(a, b) : _mm512_max_epi32(a, b);
}

// The 16 lanes of each of four vectors to one number.
template <Reduce kReduce>
ESPALIER_INT_DOT inline __m128i reduce_lanes(const __m512i (&of)[4]) {
  const __m512i first = reduce<kReduce>(_mm512_unpacklo_epi32(of[0], of[1]), _mm512_unpackhi_epi32(of[0], of[1]));
  const __m512i second = reduce<kReduce>(_mm512_unpacklo_epi32(of[2], of[3]), _mm512_unpackhi_epi32(of[2], of[3]));
  // In every quarter one lane for each vector.
  __m512i all = reduce<kReduce>(_mm512_unpacklo_epi64(first, second), _mm512_unpackhi_epi64(first, second));
  all = reduce<kReduce>(all, _mm512_shuffle_i64x2(all, all, 0x4e));
  all = reduce<kReduce>(all, _mm512_shuffle_i64x2(all, all, 0xb1));
  return _mm512_castsi512_si128(all);
}

// InputScale of four groups, operation by operation.
struct FourScales {
  __mmask8 finite;
  __m128 scale, inverse;

  ESPALIER_INT_DOT explicit FourScales(__m128i top) : finite(_mm_cmplt_epi32_mask(top, _mm_set1_epi32(kInfinity))) {
    const __m128 greatest = _mm_castsi128_ps(top), range = _mm_set1_ps(InputScale::kGreatest);
    const __mmask8 counts = _mm_mask_cmp_ps_mask(finite, greatest, _mm_set1_ps(InputScale::kSmallest), _CMP_GT_OQ);
    const __m128 none = _mm_set1_ps(std::numeric_limits<float>::quiet_NaN());
    scale = _mm_mask_blend_ps(finite, none, _mm_maskz_div_ps(counts, greatest, range));
    inverse = _mm_maskz_div_ps(counts, range, greatest);
  }
};

// quantize_rows(), four groups at a time: what stands once for a group is found for all of them together.
template <int kZero>
ESPALIER_INT_DOT void pack_rows(const float* x, int64_t x_stride, int64_t rows, int64_t inputs, int64_t row_bytes,
                                void* out) {
  const int64_t groups = padded_inputs(inputs) / kScaleGroup;
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  for (int64_t r = 0; r < rows; ++r) {
    auto* row = reinterpret_cast<InputGroup*>(static_cast<std::byte*>(out) + r * row_bytes);
    for (int64_t first = 0; first < groups; first += 4) {
      const int64_t count = std::min<int64_t>(4, groups - first);
      __m512 low[4], high[4];
      __m512i sizes[4], totals[4];
#pragma GCC unroll 4
      for (int64_t g = 0; g < 4; ++g) {
        const float* values = x + r * x_stride + (first + g) * kScaleGroup;
        const int64_t left = inputs - (first + g) * kScaleGroup;
        low[g] = _mm512_maskz_loadu_ps(existing(std::max<int64_t>(left, 0)), values);
        high[g] = _mm512_maskz_loadu_ps(existing(std::max<int64_t>(left - 16, 0)), values + 16);
        sizes[g] = _mm512_max_epi32(_mm512_and_si512(_mm512_castps_si512(low[g]), magnitude),
                                    _mm512_and_si512(_mm512_castps_si512(high[g]), magnitude));
      }
      const FourScales scales(reduce_lanes<Reduce::kGreatest>(sizes));
      float inverse[4], scale[4], sum[4];
      int32_t total[4];
      _mm_storeu_ps(inverse, scales.inverse);
#pragma GCC unroll 4
      for (int64_t g = 0; g < 4; ++g) {
        const __m512 factor = _mm512_set1_ps(inverse[g]);
        const __mmask16 lanes = scales.finite >> g & 1 ? 0xffff : 0;
        const __m512i q_low = _mm512_maskz_cvtps_epi32(lanes, _mm512_mul_ps(low[g], factor));
        const __m512i q_high = _mm512_maskz_cvtps_epi32(lanes, _mm512_mul_ps(high[g], factor));
        totals[g] = _mm512_add_epi32(q_low, q_high);
        if (g >= count) continue;
        _mm_storeu_si128(reinterpret_cast<__m128i*>(row[first + g].b), _mm512_cvtepi32_epi8(q_low));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(row[first + g].b + 16), _mm512_cvtepi32_epi8(q_high));
      }
      const __m128i all = reduce_lanes<Reduce::kSum>(totals);
      _mm_storeu_si128(reinterpret_cast<__m128i*>(total), all);
      _mm_storeu_ps(scale, scales.scale);
      _mm_storeu_ps(sum, _mm_mul_ps(scales.scale, _mm_cvtepi32_ps(all)));
      for (int64_t g = 0; g < count; ++g) {
        row[first + g].scale = scale[g];
        row[first + g].sum = sum[g];
        row[first + g].start = -kZero * total[g];
      }
    }
  }
}

// The group of each row of a tile that its weights meet. Three rows share a pointer, and where they stand goes on by
// three numbers for all: more would not stay in registers.
template <int kRows>
struct TileRows {
  TileRows(const GemmTile& tile) {
    for (int i = 0; i < (kRows + 2) / 3; ++i) third[i] = static_cast<const char*>(tile.x) + 3 * i * tile.x_depth;
    for (int i = 0; i < 3; ++i) at[i] = tile.begin / kScaleGroup * kBytes + i * tile.x_depth;
  }
  const InputGroup& operator[](int r) const { return *reinterpret_cast<const InputGroup*>(third[r / 3] + at[r % 3]); }
  void advance() {
#pragma GCC unroll 4
    for (int64_t& place : at) {
      place += kBytes;
      asm("" : "+r"(place));  // or g++ would move all pointers instead
    }
  }
  static constexpr auto kBytes = static_cast<int64_t>(sizeof(InputGroup));
  const char* third[(kRows + 2) / 3];
  int64_t at[3];
};

// One group: sum += d s (q - zero).b (+ m s sum b). `ahead` is what is asked for beside its lines.
template <int kRows, int kBits, bool kMinimum, int kInto>
ESPALIER_INT_DOT inline void add_group(__m512 (&sum)[kRows], const std::byte* header, const std::byte* weights,
                                       const TileRows<kRows>& x, int64_t group, const char* ahead, int64_t ahead_step) {
  __m512i dot[kRows];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) dot[r] = kMinimum ? _mm512_setzero_si512() : _mm512_set1_epi32(x[r].start);
  constexpr int kLines = kBits == 8 ? 8 : 4;
#pragma GCC unroll 8
  for (int line = 0; line < kLines; ++line) {
    __builtin_prefetch(ahead + line * ahead_step, 0, kInto);
    const __m512i packed = _mm512_loadu_si512(weights + line * 64);
#pragma GCC unroll 2
    for (int half = 0; half < 8 / kLines; ++half) {
      const __m512i q = kBits == 8
                            ? packed
                            : _mm512_and_si512(half == 0 ? packed : _mm512_srli_epi16(packed, 4), _mm512_set1_epi8(15));
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) {
        const int* four = reinterpret_cast<const int*>(x[r].b + (line + half * kLines) * 4);
        asm("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(dot[r]) : "v"(q), "m"(*four));  // g++ 12 would load it by itself
      }
    }
  }
  const __m512 d = halves(header + group % 2 * 32);
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    sum[r] = _mm512_fmadd_ps(_mm512_mul_ps(d, _mm512_set1_ps(x[r].scale)), _mm512_cvtepi32_ps(dot[r]), sum[r]);
  }
  if constexpr (kMinimum) {
    const __m512 m = halves(header + 64 + group % 2 * 32);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) sum[r] = _mm512_fmadd_ps(m, _mm512_set1_ps(x[r].sum), sum[r]);
  }
}

template <int kRows, int kBits, bool kMinimum, int kInto>
ESPALIER_INT_DOT void int_tile(const GemmTile& tile, int64_t panel) {
  constexpr QuantizedFormat kFormat{kBits, 0, kMinimum};
  constexpr int64_t kBlockBytes = kFormat.superblock_bytes();
  const int64_t output = panel * kPanel;
  const std::byte* block = static_cast<const std::byte*>(tile.weights) + panel * tile.panel_stride;
  const __mmask16 mask = existing(tile.outputs - output);
  __m512 sum[kRows];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    sum[r] = tile.continues ? _mm512_maskz_loadu_ps(mask, tile.y + r * tile.y_stride + output) : _mm512_setzero_ps();
  }
  TileRows<kRows> x(tile);
  // As many lines of what comes next are asked for as this part has.
  const int64_t step = tile.prefetch_step;
  const char* ahead = tile.prefetch + panel * (tile.panel_stride / 64 * step);
  for (int64_t done = 0; done < tile.depth; done += kSuperblock) {
    for (int64_t line = 0; line < kFormat.header_bytes() / 64; ++line) {
      __builtin_prefetch(ahead + line * step, 0, kInto);
    }
    ahead += kFormat.header_bytes() / 64 * step;
    const std::byte* weights = block + kFormat.header_bytes();
#pragma GCC unroll 2
    for (int64_t group = 0; group < 2; ++group) {
      add_group<kRows, kBits, kMinimum, kInto>(sum, block, weights + group * kFormat.group_bytes(), x, group, ahead,
                                               step);
      ahead += kFormat.group_bytes() / 64 * step;
      x.advance();
    }
    block += kBlockBytes;
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) _mm512_mask_storeu_ps(tile.y + r * tile.y_stride + output, mask, sum[r]);
}

template <int kBits, bool kMinimum, int kInto, int kRows = 1>
void int_tiles(const GemmTile& tile) {
  if (tile.rows == kRows) {
    for (int64_t panel = 0; panel < tile.panels; ++panel) int_tile<kRows, kBits, kMinimum, kInto>(tile, panel);
    return;
  }
  if constexpr (kRows < kMostRows) int_tiles<kBits, kMinimum, kInto, kRows + 1>(tile);
}

template <int kInto>
void set_functions(Kernels& kernels) {
  kernels.gemm_int8.pack = pack_rows<kInt8Format.zero>;
  kernels.gemm_int4.pack = pack_rows<kInt4Format.zero>;
  kernels.gemm_int4_min.pack = pack_rows<kInt4MinFormat.zero>;
  kernels.gemm_int8.tile = int_tiles<8, false, kInto>;
  kernels.gemm_int4.tile = int_tiles<4, false, kInto>;
  kernels.gemm_int4_min.tile = int_tiles<4, true, kInto>;
}

}  // namespace

void fill_gemm_int_dot(Kernels& kernels) {
  for (Gemm* gemm : {&kernels.gemm_int8, &kernels.gemm_int4, &kernels.gemm_int4_min}) {
    gemm->tile_rows = gemm->stream_rows = kMostRows;
  }
  prefetches_into_second_level() ? set_functions<kIntoSecondLevel>(kernels) : set_functions<kIntoFirstLevel>(kernels);
}

}  // namespace espalier

#else

namespace espalier {
void fill_gemm_int_dot(Kernels&) {}
}  // namespace espalier

#endif
