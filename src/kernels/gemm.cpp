// Tiles of matrix products; see kernels/packed_matrix.h for the layout of panels.
#include "kernels/tables.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/gemm.cpp"
#include "hwy/foreach_target.h"
//
#include "kernels/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace espalier {
namespace HWY_NAMESPACE {

// Walks through the memory that will be read next, a share of it with every step of k, so that it is in the cache
// when its turn comes and the memory bus is busy while the tile is computed.
class Prefetcher {
 public:
  HWY_INLINE Prefetcher(const char* begin, int64_t bytes, int64_t steps)
      : begin_(begin), step_(begin && steps > 0 ? (bytes + steps - 1) / steps : 0) {}
  HWY_INLINE void step(int64_t k) const {
    if (step_ == 0) return;
    for (int64_t byte = 0; byte < step_; byte += 64) __builtin_prefetch(begin_ + k * step_ + byte, 0, 3);
  }

 private:
  const char* begin_;
  int64_t step_;
};

template <int kRows, int kPanels>
HWY_INLINE void store_tile(const V16 (&acc)[kPanels][kRows], const GemmTile& tile, int64_t panel) {
  for (int p = 0; p < kPanels; ++p) {
    const int64_t output = (panel + p) * kPanel;
    const int64_t count = tile.outputs - output;
    for (int r = 0; r < kRows; ++r) {
      float* y = tile.y + r * tile.y_stride + output;
      if (count >= kPanel) {
        store(acc[p][r], y);
      } else {
        store_tail(acc[p][r], y, count);
      }
    }
  }
}

template <int kRows, int kPanels>
void tile_f32(const GemmTile& tile, int64_t panel) {
  const float* w = static_cast<const float*>(tile.weights) + panel * tile.depth * kPanel;
  const float* x = tile.x;
  const Prefetcher prefetcher(tile.prefetch, tile.prefetch_bytes, tile.depth);
  V16 acc[kPanels][kRows];
  for (auto& rows : acc) {
    for (V16& a : rows) a = broadcast(0.0f);
  }
  for (int64_t k = 0; k < tile.depth; ++k) {
    prefetcher.step(k);
    for (int p = 0; p < kPanels; ++p) {
      const V16 weights = load(w + (p * tile.depth + k) * kPanel);
      for (int r = 0; r < kRows; ++r) acc[p][r] = fma(broadcast(x[k * kRows + r]), weights, acc[p][r]);
    }
  }
  store_tile(acc, tile, panel);
}

template <int kRows, int kPanels>
void tile_bf16(const GemmTile& tile, int64_t panel) {
  const int64_t pairs = (tile.depth + 1) / 2;
  const uint16_t* w = static_cast<const uint16_t*>(tile.weights) + panel * pairs * 2 * kPanel;
  const float* x = tile.x;
  const Prefetcher prefetcher(tile.prefetch, tile.prefetch_bytes, pairs);
  V16 acc[kPanels][kRows];
  for (auto& rows : acc) {
    for (V16& a : rows) a = broadcast(0.0f);
  }
  for (int64_t pair = 0; pair < pairs; ++pair) {
    prefetcher.step(pair);
    const float* even_x = x + 2 * pair * kRows;
    const float* odd_x = even_x + kRows;
    for (int p = 0; p < kPanels; ++p) {
      const uint16_t* both = w + (p * pairs + pair) * 2 * kPanel;
      const V16 odd = odd_of_pairs(both);
      for (int r = 0; r < kRows; ++r) acc[p][r] = fma(broadcast(odd_x[r]), odd, acc[p][r]);
      const V16 even = even_of_pairs(both);
      for (int r = 0; r < kRows; ++r) acc[p][r] = fma(broadcast(even_x[r]), even, acc[p][r]);
    }
  }
  store_tile(acc, tile, panel);
}

// As many panels side by side as registers allow: with few rows a single panel would wait for its own sums.
#define ESPALIER_TILES(kernel, kRows, kPanels)                                                        \
  do {                                                                                                \
    int64_t panel = 0;                                                                                \
    for (; panel + (kPanels) <= tile.panels; panel += (kPanels)) kernel<kRows, kPanels>(tile, panel); \
    for (; panel < tile.panels; ++panel) kernel<kRows, 1>(tile, panel);                               \
  } while (false)

#define ESPALIER_GEMM(name, kernel)   \
  void name(const GemmTile& tile) {   \
    switch (tile.rows) {              \
      case 1:                         \
        ESPALIER_TILES(kernel, 1, 6); \
        break;                        \
      case 2:                         \
        ESPALIER_TILES(kernel, 2, 3); \
        break;                        \
      case 3:                         \
        ESPALIER_TILES(kernel, 3, 2); \
        break;                        \
      case 4:                         \
        ESPALIER_TILES(kernel, 4, 1); \
        break;                        \
      case 5:                         \
        ESPALIER_TILES(kernel, 5, 1); \
        break;                        \
      default:                        \
        ESPALIER_TILES(kernel, 6, 1); \
    }                                 \
  }

ESPALIER_GEMM(gemm_f32, tile_f32)
ESPALIER_GEMM(gemm_bf16, tile_bf16)

#undef ESPALIER_GEMM
#undef ESPALIER_TILES

void widen_panel(const uint16_t* panel, int64_t depth, float* out) {
  for (int64_t pair = 0; pair < (depth + 1) / 2; ++pair) {
    store(odd_of_pairs(panel + pair * 2 * kPanel), out + 2 * pair * kPanel);
    store(even_of_pairs(panel + pair * 2 * kPanel), out + (2 * pair + 1) * kPanel);
  }
}

void fill_gemm_table(Kernels& kernels) {
  kernels.gemm_f32 = gemm_f32;
  kernels.gemm_bf16 = gemm_bf16;
  kernels.widen_panel = widen_panel;
}

}  // namespace HWY_NAMESPACE
}  // namespace espalier
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace espalier {
ESPALIER_FILL_TABLE(fill_gemm, fill_gemm_table)
}  // namespace espalier
#endif
