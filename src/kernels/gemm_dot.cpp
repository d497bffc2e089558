// Tiles of bf16 products by AVX-512's dot products of pairs (vdpbf16ps), which Highway 1.0.3 does not name.
//
// The instruction is two fused multiply-adds per lane, odd element first, so the sums have the bits of gemm.cpp's.
#include "kernels/tables.h"

#ifdef ESPALIER_X86_KERNELS
#include <immintrin.h>

#include <algorithm>

#include "core/half.h"

#define ESPALIER_DOT [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")]]

namespace espalier {
namespace {

constexpr int kMostStreamRows = 16;  // against one panel: more would wait for their loads of inputs
constexpr int kMostRows = 12;        // 12 rows x 2 panels of sums, 2 of weights and an input fill 27 of 32 registers

constexpr int64_t kLine = 64 / sizeof(bf16);  // inputs of a cache line

// An odd number of cache lines, so that the rows of a tile do not meet in the same sets of the cache.
int64_t packed_depth(int64_t inputs) {
  return ((inputs + kLine - 1) / kLine | 1) * kLine;
}

// float_to_bf16() of the lanes of a mask.
ESPALIER_DOT inline void round_to_bf16(const float* x, __mmask16 lanes, bf16* out) {
  const __m512i bits = _mm512_maskz_loadu_epi32(lanes, x), high = _mm512_srli_epi32(bits, 16);
  const __m512i odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
  const __m512i up = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
  const __mmask16 nan = _mm512_cmp_ps_mask(_mm512_castsi512_ps(bits), _mm512_castsi512_ps(bits), _CMP_UNORD_Q);
  const __m512i rounded = _mm512_mask_or_epi32(_mm512_srli_epi32(up, 16), nan, high, _mm512_set1_epi32(0x40));
  _mm512_mask_cvtepi32_storeu_epi16(out, lanes, rounded);
}

// out [rows][depth]; zeros up to a line's end
ESPALIER_DOT void pack_rows(const float* x, int64_t x_stride, int64_t rows, int64_t inputs, int64_t depth, void* out) {
  for (int64_t r = 0; r < rows; ++r) {
    const float* row = x + r * x_stride;
    bf16* rounded = static_cast<bf16*>(out) + r * depth;
    int64_t k = 0;
    for (; k + 16 <= inputs; k += 16) round_to_bf16(row + k, 0xffff, rounded + k);
    if (k < inputs) round_to_bf16(row + k, existing(inputs - k), rounded + k);
    std::fill(rounded + inputs, rounded + (inputs + kLine - 1) / kLine * kLine, bf16{0});
  }
}

// An input pair of row r. Three rows share a pointer: it, one and two strides on are single addresses.
inline const int* pair_of_row(const char* const* third, int64_t offset, int r, int64_t stride) {
  return reinterpret_cast<const int*>(third[r / 3] + offset + r % 3 * stride);
}

template <int kRows, int kPanels, int kInto>
ESPALIER_DOT void dot_tile(const GemmTile& tile, int64_t panel) {
  const bf16* w = static_cast<const bf16*>(tile.weights) + panel * tile.panel_stride;
  const int64_t x_stride = tile.x_depth * static_cast<int64_t>(sizeof(bf16));
  const char* x[(kRows + 2) / 3];
  for (int i = 0; i < (kRows + 2) / 3; ++i) {
    x[i] = static_cast<const char*>(tile.x) + 3 * i * x_stride + tile.begin * static_cast<int64_t>(sizeof(bf16));
  }
  constexpr int64_t kPair = 2 * kPanel;  // weights of one pair of inputs: 64 bytes
  const char* next = tile.prefetch + panel * (tile.depth / 2) * tile.prefetch_step;

  __m512 sum[kPanels][kRows];
  __mmask16 mask[kPanels];
#pragma GCC unroll 4
  for (int p = 0; p < kPanels; ++p) {
    const int64_t output = (panel + p) * kPanel;
    mask[p] = existing(tile.outputs - output);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      sum[p][r] =
          tile.continues ? _mm512_maskz_loadu_ps(mask[p], tile.y + r * tile.y_stride + output) : _mm512_setzero_ps();
    }
  }
  int64_t offset = 0;
  for (int64_t pair = 0; pair < tile.depth / 2; ++pair) {
    __m512bh weights[kPanels];
#pragma GCC unroll 4
    for (int p = 0; p < kPanels; ++p) {
      __builtin_prefetch(next + p * tile.prefetch_step, 0, kInto);
      weights[p] = reinterpret_cast<__m512bh>(_mm512_loadu_si512(w + p * tile.panel_stride));
    }
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      if constexpr (kPanels == 1) {  // g++ 12 would load the pair by an instruction of its own
        asm("vdpbf16ps %2%{1to16%}, %1, %0"
            : "+v"(sum[0][r])
            : "v"(weights[0]), "m"(*pair_of_row(x, offset, r, x_stride)));
        continue;
      }
      const __m512bh inputs = reinterpret_cast<__m512bh>(_mm512_set1_epi32(*pair_of_row(x, offset, r, x_stride)));
#pragma GCC unroll 4
      for (int p = 0; p < kPanels; ++p) sum[p][r] = _mm512_dpbf16_ps(sum[p][r], weights[p], inputs);
    }
    next += kPanels * tile.prefetch_step;
    w += kPair;
    offset += 2 * sizeof(bf16);
    asm("" : "+r"(offset));  // or g++ would move all pointers instead, through memory
  }
#pragma GCC unroll 4
  for (int p = 0; p < kPanels; ++p) {
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      _mm512_mask_storeu_ps(tile.y + r * tile.y_stride + (panel + p) * kPanel, mask[p], sum[p][r]);
    }
  }
}

// Two panels share each input that is loaded.
template <int kRows, int kInto>
void dot_rows(const GemmTile& tile) {
  int64_t panel = 0;
  // Tiles come two panels at a time where rows are too many to stream, so none of them is low.
  if constexpr (kRows <= kMostRows && 2 * kRows > kMostRows) {
    for (; !tile.stream && panel + 2 <= tile.panels; panel += 2) dot_tile<kRows, 2, kInto>(tile, panel);
  }
  for (; panel < tile.panels; ++panel) dot_tile<kRows, 1, kInto>(tile, panel);
}

template <int kInto, int kRows = 1>
void dot_tiles(const GemmTile& tile) {
  if (tile.rows == kRows) return dot_rows<kRows, kInto>(tile);
  if constexpr (kRows < kMostStreamRows) dot_tiles<kInto, kRows + 1>(tile);
}

}  // namespace

void fill_gemm_dot(Kernels& kernels) {
  kernels.gemm_bf16 = {
      .tile_rows = kMostRows,
      .tile_panels = 2,
      .block = 2,
      .stream_rows = kMostStreamRows,
      .input_bytes = sizeof(bf16),
      .packed_depth = packed_depth,
      .pack = pack_rows,
      .packs_by_rows = true,
      .tile = prefetches_into_second_level() ? dot_tiles<kIntoSecondLevel> : dot_tiles<kIntoFirstLevel>};
}

}  // namespace espalier

#else

namespace espalier {
void fill_gemm_dot(Kernels&) {}
}  // namespace espalier

#endif
