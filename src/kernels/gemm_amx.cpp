// Tiles of bf16 products by AMX's matrix instructions (tdpbf16ps), which multiply 16 rows x 32 inputs by 32 inputs x 16
// outputs at once: 16 pairs of a panel's inputs, 1 KB, are such a block as they stand.
//
// The instruction adds up a block's even and odd inputs by themselves, then both sums, then what there was. These are
// not the bits of gemm.cpp's sums, but the same for any number of rows; ARCHITECTURE.md, "Exactness", says why this is
// allowed.
#include "kernels/amx.h"
#include "kernels/tables.h"

#if defined(ESPALIER_X86_KERNELS) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "core/half.h"

namespace espalier {
namespace {

constexpr int64_t kBlock = 32;         // inputs
constexpr int64_t kBlockBytes = 1024;  // of a panel
constexpr int64_t kMostRowBlocks = 4;  // against one panel
constexpr int64_t kMostRows = 256;     // of a tile: more configurations of the registers would cost a tenth
// Registers: sums of a panel's row blocks, then those of a second panel's; inputs, of which the last rows may be fewer
// than 16; weights of the panels.
constexpr int kInputs = 4, kLastInputs = 5, kWeights = 6;
template <int kRowBlocks>
constexpr int sums_register(int row_block, int panel) {
  return panel * kRowBlocks + row_block;
}

// Where a panel's sums are: where they belong, or aside when the panel is the last and partial.
struct Sums {
  Sums(const GemmTile& tile, int64_t panel)
      : outputs(std::min<int64_t>(kPanel, tile.outputs - panel * kPanel)), y(tile.y + panel * kPanel), tile(&tile) {
    if (outputs == kPanel || !tile.continues) return;
    for (int64_t r = 0; r < tile.rows; ++r) {
      std::memcpy(aside[r], y + r * tile.y_stride, static_cast<size_t>(outputs) * sizeof(float));
    }
  }
  float* row(int64_t r) { return outputs == kPanel ? y + r * tile->y_stride : aside[r]; }
  int64_t stride_bytes() const { return (outputs == kPanel ? tile->y_stride : kPanel) * int64_t{sizeof(float)}; }
  void finish() const {
    if (outputs == kPanel) return;
    for (int64_t r = 0; r < tile->rows; ++r) {
      std::memcpy(y + r * tile->y_stride, aside[r], static_cast<size_t>(outputs) * sizeof(float));
    }
  }
  int64_t outputs;
  float* y;
  const GemmTile* tile;
  float aside[kMostRowBlocks * amx::kRows][kPanel];
};

// Calls f.operator()<i>() for i = 0 .. kCount - 1: numbers of registers are part of an instruction.
template <int kCount, class F, int i = 0>
void each(const F& f) {
  f.template operator()<i>();
  if constexpr (i + 1 < kCount) each<kCount, F, i + 1>(f);
}

template <int kRowBlocks, int kPanels>
void multiply_blocks(const GemmTile& tile, int64_t panel) {
  const int64_t x_stride = tile.x_depth * int64_t{sizeof(bf16)};
  const int64_t panel_bytes = tile.panel_stride * int64_t{sizeof(bf16)};
  const char* x = static_cast<const char*>(tile.x) + tile.begin * int64_t{sizeof(bf16)};
  const char* w = static_cast<const char*>(tile.weights) + panel * panel_bytes;
  const char* next = tile.prefetch + panel * (tile.depth / 2) * tile.prefetch_step;
  Sums sums[] = {Sums(tile, panel), Sums(tile, panel + kPanels - 1)};
  const auto each_sums = [&](const auto& f) {
    each<kRowBlocks>([&]<int b>() {
      each<kPanels>([&]<int p>() {
        f.template operator()<sums_register<kRowBlocks>(b, p)>(sums[p].row(b * amx::kRows), sums[p]);
      });
    });
  };
  each_sums([&]<int reg>(float* row, const Sums& of) {
    tile.continues ? amx::load<reg>(row, of.stride_bytes()) : amx::zero<reg>();
  });
  const auto add_block = [&](const char* weights, int64_t stride) {
    each<kPanels>([&]<int p>() { amx::load<kWeights + p>(weights + p * stride, amx::kRowBytes); });
    each<kRowBlocks>([&]<int b>() {
      constexpr int kRows = b + 1 < kRowBlocks ? kInputs : kLastInputs;
      amx::load<kRows>(x + b * amx::kRows * x_stride, x_stride);
      each<kPanels>([&]<int p>() { amx::multiply_bf16<sums_register<kRowBlocks>(b, p), kRows, kWeights + p>(); });
    });
  };
  const int64_t ahead_bytes = kPanels * amx::kRows * tile.prefetch_step;
  for (int64_t block = 0; block < tile.depth / kBlock; ++block) {
    for (int64_t byte = 0; byte < ahead_bytes; byte += amx::kRowBytes) {
      __builtin_prefetch(next + byte, 0, kIntoFirstLevel);
    }
    next += ahead_bytes;
    add_block(w, panel_bytes);
    x += kBlock * sizeof(bf16);
    w += kBlockBytes;
  }
  if (const int64_t bytes = tile.depth % kBlock * kPanel * int64_t{sizeof(bf16)}; bytes > 0) {
    alignas(64) char rest[kPanels][kBlockBytes] = {};
    for (int64_t p = 0; p < kPanels; ++p) std::memcpy(rest[p], w + p * panel_bytes, static_cast<size_t>(bytes));
    add_block(rest[0], kBlockBytes);
  }
  each_sums([]<int reg>(float* row, const Sums& of) { amx::store<reg>(row, of.stride_bytes()); });
  for (int p = 0; p < kPanels; ++p) sums[p].finish();
}

// All rows: kRowBlocks blocks of 16, of which the last may be fewer, or a multiple of them.
template <int kRowBlocks, int kPanels>
void multiply_rows(const GemmTile& tile, int64_t panel) {
  constexpr int64_t kRows = kRowBlocks * amx::kRows;
  if (tile.rows <= kRows) return multiply_blocks<kRowBlocks, kPanels>(tile, panel);
  GemmTile part = tile;
  part.rows = kRows;
  for (int64_t row = 0; row < tile.rows; row += kRows) {
    multiply_blocks<kRowBlocks, kPanels>(part, panel);
    part.x = static_cast<const bf16*>(part.x) + kRows * tile.x_depth;
    part.y += kRows * tile.y_stride;
    part.prefetch_step = 0;  // asked for once
  }
}

template <int kRowBlocks, int kPanels>
void multiply_panels(const GemmTile& tile) {
  amx::Shapes shapes;
  for (int b = 0; b < kRowBlocks; ++b) {
    const bool last = b + 1 == kRowBlocks;
    const int64_t rows = last ? std::min(tile.rows - b * amx::kRows, amx::kRows) : amx::kRows;
    for (int p = 0; p < kPanels; ++p) shapes.set(sums_register<kRowBlocks>(b, p), rows);
    shapes.set(last ? kLastInputs : kInputs, rows);
  }
  for (int p = 0; p < kPanels; ++p) shapes.set(kWeights + p, amx::kRows);
  const amx::Registers registers(shapes);
  int64_t panel = 0;
  for (; panel + kPanels <= tile.panels; panel += kPanels) multiply_rows<kRowBlocks, kPanels>(tile, panel);
  for (; panel < tile.panels; ++panel) multiply_rows<kRowBlocks, 1>(tile, panel);
}

// Rows against one panel after the other.
template <int kRowBlocks = 1>
void stream(const GemmTile& tile) {
  if (tile.rows <= kRowBlocks * amx::kRows) return multiply_panels<kRowBlocks, 1>(tile);
  if constexpr (kRowBlocks < kMostRowBlocks) stream<kRowBlocks + 1>(tile);
}

void matrix_tile(const GemmTile& tile) {
  if (tile.stream) return stream(tile);
  GemmTile part = tile;
  part.rows = tile.rows / (2 * amx::kRows) * (2 * amx::kRows);
  if (part.rows > 0) multiply_panels<2, 2>(part);
  if (part.rows == tile.rows) return;
  part.x = static_cast<const bf16*>(tile.x) + part.rows * tile.x_depth;
  part.y += part.rows * tile.y_stride;
  if (part.rows > 0) part.prefetch_step = 0;  // asked for already
  part.rows = tile.rows - part.rows;
  part.rows > amx::kRows ? multiply_panels<2, 2>(part) : multiply_panels<1, 2>(part);
}

bool find_amx() {
  constexpr unsigned kBf16 = 1u << 22, kTile = 1u << 24;
  unsigned a = 0, b = 0, c = 0, features = 0;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &features) == 0) return false;
  if ((~features & (kBf16 | kTile)) != 0) return false;
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // asked once, for all threads of the process
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

}  // namespace

bool has_amx() {
  static const bool found = find_amx();
  return found;
}

void fill_gemm_amx(Kernels& kernels) {
  kernels.gemm_bf16.tile_rows = kMostRows;
  kernels.gemm_bf16.tile_panels = 2;
  kernels.gemm_bf16.stream_rows = kMostRowBlocks * amx::kRows;
  kernels.gemm_bf16.block = kBlock;
  kernels.gemm_bf16.ahead_bytes = 3072;  // 4096 would meet what is read in the same cache sets
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
