// Tiles of matrix products; see kernels/packed_matrix.h for the layout of panels.
#include <algorithm>

#include "core/half.h"
#include "kernels/quantized.h"
#include "kernels/tables.h"
#include "kernels/transpose.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/gemm.cpp"
#include "hwy/foreach_target.h"
//
#include "kernels/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace espalier {
namespace HWY_NAMESPACE {

// Rows of a tile, whose sums stay in registers, with AVX-512 beside as many for a second panel, which shares what is
// loaded of the rows.
constexpr int kMostRows = kParts == 1 ? 12 : 6, kPanelsTogether = kParts == 1 ? 2 : 1;
constexpr int kMostQuantizedRows = 6;
constexpr int kStreamRows = 6;

// The same pointer, which the compiler may not connect with earlier loads: it would keep what they gave in registers
// that the sums need.
template <class T>
HWY_INLINE const T* reloaded(const T* p) {
  asm volatile("" : "+r"(p));
  return p;
}

// The sums that earlier inputs gave, or zeros.
template <int kRows, int kPanels>
HWY_INLINE void load_tile(const GemmTile& tile, int64_t panel, V16 (&acc)[kRows][kPanels]) {
  for (int p = 0; p < kPanels; ++p) {
    const int64_t output = (panel + p) * kPanel, count = tile.outputs - output;
    for (int r = 0; r < kRows; ++r) {
      const float* y = tile.y + r * tile.y_stride + output;
      acc[r][p] = !tile.continues ? broadcast(0.0f) : count >= kPanel ? load(y) : load_tail(y, count, 0.0f);
    }
  }
}

template <int kRows, int kPanels>
HWY_INLINE void store_tile(const V16 (&acc)[kRows][kPanels], const GemmTile& tile, int64_t panel) {
  for (int p = 0; p < kPanels; ++p) {
    const int64_t output = (panel + p) * kPanel, count = tile.outputs - output;
    for (int r = 0; r < kRows; ++r) {
      float* y = tile.y + r * tile.y_stride + output;
      if (count >= kPanel) {
        store(acc[r][p], y);
      } else {
        store_tail(acc[r][p], y, count);
      }
    }
  }
}

// One input (f32) or pair of inputs (bf16) of some panels. x [kRows] or [2][kRows].
template <int kRows, int kPanels>
HWY_INLINE void add_input(V16 (&acc)[kRows][kPanels], const float* x, const float* w, int64_t panel_stride) {
  V16 weights[kPanels];
  for (int p = 0; p < kPanels; ++p) weights[p] = load(w + p * panel_stride);
  add_weighted(acc, weights, reloaded(x), 1);
}

template <int kRows, int kPanels>
HWY_INLINE void add_pair(V16 (&acc)[kRows][kPanels], const float* x, const uint16_t* w, int64_t panel_stride) {
  const float* row_x = reloaded(x);
  V16 weights[kPanels];
  for (int p = 0; p < kPanels; ++p) weights[p] = odd_of_pairs(w + p * panel_stride);
  add_weighted(acc, weights, row_x + kRows, 1);
  w = reloaded(w);
  for (int p = 0; p < kPanels; ++p) weights[p] = even_of_pairs(w + p * panel_stride);
  add_weighted(acc, weights, row_x, 1);
}

// x rounded by `round`, side by side: out [depth][rows]. In blocks, so that the rounding is done by lanes.
template <class Round>
HWY_INLINE void pack_rows(const float* x, int64_t x_stride, int64_t rows, int64_t inputs, int64_t depth, void* out,
                          Round round) {
  constexpr int64_t kBlock = 256;
  float rounded[kMostRows][kBlock];
  for (int64_t begin = 0; begin < inputs; begin += kBlock) {
    const int64_t count = std::min(kBlock, inputs - begin);
    for (int64_t r = 0; r < rows; ++r) {
      const float* row = x + r * x_stride + begin;
      for (int64_t k = 0; k < count; ++k) rounded[r][k] = round(row[k]);
    }
    transpose(rounded[0], kBlock, rows, count, static_cast<float*>(out) + begin * rows, rows);
  }
  std::fill_n(static_cast<float*>(out) + inputs * rows, (depth - inputs) * rows, 0.0f);
}

void pack_f32(const float* x, int64_t x_stride, int64_t rows, int64_t inputs, int64_t depth, void* out) {
  pack_rows(x, x_stride, rows, inputs, depth, out, [](float value) { return value; });
}

void pack_bf16(const float* x, int64_t x_stride, int64_t rows, int64_t inputs, int64_t depth, void* out) {
  pack_rows(x, x_stride, rows, inputs, depth, out, [](float value) { return bf16_to_float(float_to_bf16(value)); });
}

// With every input a line of the memory that will be needed next is asked for, so that its way to the cache takes the
// time that the sums take. Returns what is next.
template <int kLines>
HWY_INLINE const char* ask_for_lines(const char* next, int64_t step) {
  for (int i = 0; i < kLines; ++i) __builtin_prefetch(next + i * step, 0, 3);
  return next + kLines * step;
}

template <int kRows, int kPanels>
void tile_f32(const GemmTile& tile, int64_t panel) {
  const float* w = static_cast<const float*>(tile.weights) + panel * tile.panel_stride;
  const float* x = static_cast<const float*>(tile.x) + tile.begin * kRows;
  const char* next = tile.prefetch + panel * tile.depth * tile.prefetch_step;
  V16 acc[kRows][kPanels];
  load_tile(tile, panel, acc);
  for (int64_t k = 0; k < tile.depth; ++k) {
    next = ask_for_lines<kPanels>(next, tile.prefetch_step);
    add_input(acc, x + k * kRows, w + k * kPanel, tile.panel_stride);
  }
  store_tile(acc, tile, panel);
}

template <int kRows, int kPanels>
void tile_bf16(const GemmTile& tile, int64_t panel) {
  const uint16_t* w = static_cast<const uint16_t*>(tile.weights) + panel * tile.panel_stride;
  const float* x = static_cast<const float*>(tile.x) + tile.begin * kRows;
  const char* next = tile.prefetch + panel * (tile.depth / 2) * tile.prefetch_step;
  V16 acc[kRows][kPanels];
  load_tile(tile, panel, acc);
  for (int64_t k = 0; k < tile.depth; k += 2) {
    next = ask_for_lines<kPanels>(next, tile.prefetch_step);
    add_pair(acc, x + k * kRows, w + k * kPanel, tile.panel_stride);
  }
  store_tile(acc, tile, panel);
}

// dot_r += q . b_r for the four inputs of every word of a line, from bit kFirst of each byte on; b [kRows] at the
// first.
template <int kRows, int kFirst, uint32_t kMask, int kByte = 0>
HWY_INLINE void add_bytes(V16 (&dot)[kRows], const int8_t* b, int64_t stride, const std::byte* line) {
  const V16 q = bits_of_words<8 * kByte + kFirst, kMask>(line);
  for (int r = 0; r < kRows; ++r) {
    add_product(broadcast(static_cast<float>(b[r * stride + kByte])), q, dot[r]);
  }
  if constexpr (kByte < 3) add_bytes<kRows, kFirst, kMask, kByte + 1>(dot, b, stride, line);
}

HWY_INLINE V16 load_halves(const std::byte* p) {
  uint16_t halves[16];
  float values[16];
  std::memcpy(halves, p, sizeof(halves));
  for (int i = 0; i < 16; ++i) values[i] = half_to_float(halves[i]);
  return load(values);
}

// Integer sums as floats, which hold them exactly: a group's are below 2^21.
template <int kRows, int kBits, bool kMinimum>
void tile_quantized(const GemmTile& tile, int64_t panel) {
  constexpr QuantizedFormat kFormat{kBits, 0, kMinimum};
  constexpr uint32_t kMask = kBits == 8 ? 255 : 15;
  const auto* block = static_cast<const std::byte*>(tile.weights) + panel * tile.panel_stride;
  V16 acc[kRows][1], dot[kRows];
  load_tile(tile, panel, acc);
  for (int64_t group = tile.begin / kScaleGroup; group < (tile.begin + tile.depth) / kScaleGroup; ++group) {
    const std::byte* weights = block + kFormat.header_bytes() + group % 2 * kFormat.group_bytes();
    const InputGroup* x[kRows];
    for (int r = 0; r < kRows; ++r) {
      x[r] = reinterpret_cast<const InputGroup*>(static_cast<const std::byte*>(tile.x) + r * tile.x_depth) + group;
      dot[r] = broadcast(kMinimum ? 0.0f : static_cast<float>(x[r]->start));
    }
    const int8_t* b = x[0]->b;
    for (int line = 0; line < (kBits == 8 ? 8 : 4); ++line) {
      add_bytes<kRows, 0, kMask>(dot, b + line * 4, tile.x_depth, weights + line * 64);
      if constexpr (kBits == 4) add_bytes<kRows, 4, kMask>(dot, b + (line + 4) * 4, tile.x_depth, weights + line * 64);
    }
    const V16 d = load_halves(block + group % 2 * 32);
    for (int r = 0; r < kRows; ++r) {
      acc[r][0] = fma(mul(d, broadcast(x[r]->scale)), dot[r], acc[r][0]);
    }
    if constexpr (kMinimum) {
      const V16 m = load_halves(block + 64 + group % 2 * 32);
      for (int r = 0; r < kRows; ++r) acc[r][0] = fma(m, broadcast(x[r]->sum), acc[r][0]);
    }
    if (group % 2 == 1) block += kFormat.superblock_bytes();
  }
  store_tile(acc, tile, panel);
}

// All panels of a tile; Kernel::run<kRows, kPanels>(tile, panel) is one or some side by side.
template <class Kernel, int kRows = 1>
void all_panels(const GemmTile& tile) {
  if (tile.rows == kRows) {
    int64_t panel = 0;
    // Of fewer rows, which stream, memory serves one panel better.
    if constexpr (Kernel::kPanels > 1 && kRows > kStreamRows) {
      for (; panel + Kernel::kPanels <= tile.panels; panel += Kernel::kPanels) {
        Kernel::template run<kRows, Kernel::kPanels>(tile, panel);
      }
    }
    for (; panel < tile.panels; ++panel) Kernel::template run<kRows, 1>(tile, panel);
    return;
  }
  if constexpr (kRows < Kernel::kRows) all_panels<Kernel, kRows + 1>(tile);
}

struct KernelF32 {
  static constexpr int kRows = kMostRows, kPanels = kPanelsTogether;
  template <int kRows, int kPanels>
  static void run(const GemmTile& tile, int64_t panel) {
    tile_f32<kRows, kPanels>(tile, panel);
  }
};
struct KernelBf16 {
  static constexpr int kRows = kMostRows, kPanels = kPanelsTogether;
  template <int kRows, int kPanels>
  static void run(const GemmTile& tile, int64_t panel) {
    tile_bf16<kRows, kPanels>(tile, panel);
  }
};
template <int kBits, bool kMinimum>
struct KernelQuantized {
  static constexpr int kRows = kMostQuantizedRows, kPanels = 1;
  template <int kRows, int kPanels>
  static void run(const GemmTile& tile, int64_t panel) {
    tile_quantized<kRows, kBits, kMinimum>(tile, panel);
  }
};

template <int kBits, int kZero, bool kMinimum>
void pack_quantized(const float* x, int64_t x_stride, int64_t rows, int64_t inputs, int64_t depth, void* out) {
  quantize_rows({kBits, kZero, kMinimum}, x, x_stride, rows, inputs, depth, out);
}

template <int kBits, int kZero, bool kMinimum>
Gemm quantized_gemm() {
  return {.tile_rows = kMostQuantizedRows,
          .block = kSuperblock,
          .stream_rows = kStreamRows,
          .input_bytes = 1,
          .packed_depth = quantized_row_bytes,
          .pack = pack_quantized<kBits, kZero, kMinimum>,
          .packs_by_rows = true,
          .tile = all_panels<KernelQuantized<kBits, kMinimum>>};
}

void fill_gemm_table(Kernels& kernels) {
  kernels.gemm_int8 = quantized_gemm<8, 128, false>();
  kernels.gemm_int4 = quantized_gemm<4, 8, false>();
  kernels.gemm_int4_min = quantized_gemm<4, 0, true>();
  kernels.gemm_f32 = {.tile_rows = kMostRows,
                      .tile_panels = kPanelsTogether,
                      .block = 1,
                      .stream_rows = kStreamRows,
                      .input_bytes = sizeof(float),
                      .packed_depth = [](int64_t inputs) { return inputs; },
                      .pack = pack_f32,
                      .tile = all_panels<KernelF32>};
  kernels.gemm_bf16 = {.tile_rows = kMostRows,
                       .tile_panels = kPanelsTogether,
                       .block = 2,
                       .stream_rows = kStreamRows,
                       .input_bytes = sizeof(float),
                       .packed_depth = [](int64_t inputs) { return (inputs + 1) / 2 * 2; },
                       .pack = pack_bf16,
                       .tile = all_panels<KernelBf16>};
}

}  // namespace HWY_NAMESPACE
}  // namespace espalier
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace espalier {
ESPALIER_FILL_TABLE(fill_gemm, fill_gemm_table)
}  // namespace espalier
#endif
