// Tiles of bf16 products by AMX's matrix instructions (tdpbf16ps), which multiply 16 rows x 32 inputs by 32 inputs x 16
// outputs at once: a panel's 16 pairs of inputs, 1 KB, are such a block as they stand.
//
// The instruction adds up a block's even and odd inputs by themselves, then both sums, then what there was. These are
// not the bits of gemm.cpp's sums, but the same for any number of rows; ARCHITECTURE.md, "Exactness", says why this is
// allowed.
#include "kernels/tables.h"

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "core/half.h"

#define ESPALIER_AMX [[gnu::target("avx512f,avx512bw,avx512vl,amx-tile,amx-bf16,amx-int8")]]

namespace espalier {
namespace {

constexpr int64_t kTileRows = 16;      // of a register
constexpr int64_t kBlock = 32;         // inputs
constexpr int64_t kLineBytes = 64;     // a row of a register
constexpr int64_t kBlockBytes = 1024;  // of a panel

// What ldtilecfg reads.
struct TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

// Registers: sums of [row half][panel] are 0 to 3, inputs of the row halves 4 and 5, weights of the panels 6 and 7.
TileConfig config_of(int64_t rows) {
  TileConfig config;
  const auto upper = static_cast<uint8_t>(std::min(rows, kTileRows)), lower = static_cast<uint8_t>(rows - upper);
  for (const int i : {0, 1, 4}) config.rows[i] = upper;
  for (const int i : {2, 3, 5}) config.rows[i] = lower;
  for (const int i : {6, 7}) config.rows[i] = kTileRows;
  for (int i = 0; i < 8; ++i) config.row_bytes[i] = config.rows[i] > 0 ? kLineBytes : 0;
  return config;
}

// Sums in memory: where they belong, or aside when the panel is the last and partial.
struct Sums {
  Sums(const GemmTile& tile, int64_t panel)
      : outputs(std::min<int64_t>(kPanel, tile.outputs - panel * kPanel)), y(tile.y + panel * kPanel), tile(&tile) {
    if (outputs == kPanel) return;
    for (int64_t r = 0; r < tile.rows && tile.continues; ++r) {
      std::memcpy(aside[r], y + r * tile.y_stride, static_cast<size_t>(outputs) * sizeof(float));
    }
  }
  float* row(int64_t r) { return outputs == kPanel ? y + r * tile->y_stride : aside[r]; }
  int64_t stride_bytes() const { return (outputs == kPanel ? tile->y_stride : kPanel) * int64_t{sizeof(float)}; }
  void finish() {
    if (outputs == kPanel) return;
    for (int64_t r = 0; r < tile->rows; ++r) {
      std::memcpy(y + r * tile->y_stride, aside[r], static_cast<size_t>(outputs) * sizeof(float));
    }
  }
  int64_t outputs;
  float* y;
  const GemmTile* tile;
  float aside[2 * kTileRows][kPanel];
};

template <int kHalves, int kPanels>
ESPALIER_AMX void multiply_blocks(const GemmTile& tile, int64_t panel) {
  const int64_t x_stride = tile.x_depth * int64_t{sizeof(bf16)};
  const char* x = static_cast<const char*>(tile.x) + tile.begin * int64_t{sizeof(bf16)};
  const char* lower = x + kTileRows * x_stride;
  const char* w = static_cast<const char*>(tile.weights) + panel * tile.panel_stride * int64_t{sizeof(bf16)};
  const int64_t second = tile.panel_stride * int64_t{sizeof(bf16)};
  const char* next = tile.prefetch + panel * (tile.depth / 2) * tile.prefetch_step;

  Sums first(tile, panel), other(tile, panel + kPanels - 1);
  asm volatile("" ::: "memory");
  if (tile.continues) {
    _tile_loadd(0, first.row(0), first.stride_bytes());
    if constexpr (kPanels == 2) _tile_loadd(1, other.row(0), other.stride_bytes());
    if constexpr (kHalves == 2) _tile_loadd(2, first.row(kTileRows), first.stride_bytes());
    if constexpr (kHalves * kPanels == 4) _tile_loadd(3, other.row(kTileRows), other.stride_bytes());
  } else {
    _tile_zero(0);
    if constexpr (kPanels == 2) _tile_zero(1);
    if constexpr (kHalves == 2) _tile_zero(2);
    if constexpr (kHalves * kPanels == 4) _tile_zero(3);
  }
  const auto add_block = [&](const char* weights, const char* more_weights) ESPALIER_AMX {
    _tile_loadd(6, weights, kLineBytes);
    _tile_loadd(4, x, x_stride);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (kHalves == 2) {
      _tile_loadd(5, lower, x_stride);
      _tile_dpbf16ps(2, 5, 6);
    }
    if constexpr (kPanels == 2) {
      _tile_loadd(7, more_weights, kLineBytes);
      _tile_dpbf16ps(1, 4, 7);
      if constexpr (kHalves == 2) _tile_dpbf16ps(3, 5, 7);
    }
  };
  const int64_t ahead_bytes = kPanels * kTileRows * tile.prefetch_step;
  for (int64_t block = 0; block < tile.depth / kBlock; ++block) {
    for (int64_t byte = 0; byte < ahead_bytes; byte += kLineBytes) __builtin_prefetch(next + byte, 0, kIntoFirstLevel);
    next += ahead_bytes;
    add_block(w, w + second);
    x += kBlock * sizeof(bf16);
    lower += kBlock * sizeof(bf16);
    w += kBlockBytes;
  }
  if (const int64_t bytes = tile.depth % kBlock * kPanel * int64_t{sizeof(bf16)}; bytes > 0) {
    alignas(64) char rest[kPanels][kBlockBytes] = {};
    for (int64_t p = 0; p < kPanels; ++p) std::memcpy(rest[p], w + p * second, static_cast<size_t>(bytes));
    asm volatile("" ::: "memory");
    add_block(rest[0], rest[kPanels - 1]);
  }
  _tile_stored(0, first.row(0), first.stride_bytes());
  if constexpr (kPanels == 2) _tile_stored(1, other.row(0), other.stride_bytes());
  if constexpr (kHalves == 2) _tile_stored(2, first.row(kTileRows), first.stride_bytes());
  if constexpr (kHalves * kPanels == 4) _tile_stored(3, other.row(kTileRows), other.stride_bytes());
  asm volatile("" ::: "memory");
  first.finish();
  if constexpr (kPanels == 2) other.finish();
}

template <int kHalves>
ESPALIER_AMX void multiply_panels(const GemmTile& tile) {
  int64_t panel = 0;
  for (; panel + 2 <= tile.panels; panel += 2) multiply_blocks<kHalves, 2>(tile, panel);
  for (; panel < tile.panels; ++panel) multiply_blocks<kHalves, 1>(tile, panel);
}

ESPALIER_AMX void matrix_tile(const GemmTile& tile) {
  const TileConfig config = config_of(tile.rows);
  _tile_loadconfig(&config);
  tile.rows > kTileRows ? multiply_panels<2>(tile) : multiply_panels<1>(tile);
  _tile_release();  // registers in use are kept at each switch of threads
}

}  // namespace

bool has_amx() {
  constexpr unsigned kBf16 = 1u << 22, kTile = 1u << 24, kInt8 = 1u << 25;
  unsigned a = 0, b = 0, c = 0, features = 0;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &features) == 0) return false;
  if ((~features & (kBf16 | kTile | kInt8)) != 0) return false;
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // asked once, for all threads of the process
  static const bool granted = syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  return granted;
}

void fill_gemm_amx(Kernels& kernels) {
  kernels.gemm_bf16.tile_rows = kernels.gemm_bf16.stream_rows = 2 * kTileRows;
  kernels.gemm_bf16.tile_panels = 2;
  kernels.gemm_bf16.block = kBlock;
  kernels.gemm_bf16.tile = matrix_tile;
}

}  // namespace espalier

#else

namespace espalier {
bool has_amx() {
  return false;
}
void fill_gemm_amx(Kernels&) {}
}  // namespace espalier

#endif
