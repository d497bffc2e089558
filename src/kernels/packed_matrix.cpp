#include "kernels/packed_matrix.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "core/error.h"
#include "core/half.h"
#include "kernels/quantized.h"
#include "kernels/transpose.h"

namespace espalier {
namespace {

int64_t panels_of(int64_t outputs) {
  return (outputs + kPanel - 1) / kPanel;
}

// How a type is stored, and which kernels multiply by it. `format`: null for types that are not quantized.
struct Storage {
  WeightType type;
  const QuantizedFormat* format;
  Gemm Kernels::*gemm;
};
constexpr Storage kStorage[] = {{WeightType::kF32, nullptr, &Kernels::gemm_f32},
                                {WeightType::kBf16, nullptr, &Kernels::gemm_bf16},
                                {WeightType::kInt8, &kInt8Format, &Kernels::gemm_int8},
                                {WeightType::kInt4, &kInt4Format, &Kernels::gemm_int4},
                                {WeightType::kInt4Min, &kInt4MinFormat, &Kernels::gemm_int4_min}};
static_assert([] {
  for (size_t i = 0; i < std::size(kStorage); ++i) {
    if (static_cast<size_t>(kStorage[i].type) != i || kWeightKinds[i].type != kStorage[i].type) return false;
  }
  return std::size(kStorage) == std::size(kWeightKinds);
}());

const QuantizedFormat* format_of(WeightType type) {
  return kStorage[static_cast<size_t>(type)].format;
}

int64_t panel_bytes(int64_t inputs, WeightType type) {
  if (const QuantizedFormat* format = format_of(type)) {
    return padded_inputs(inputs) / kSuperblock * format->superblock_bytes();
  }
  return type == WeightType::kF32 ? inputs * kPanel * 4 : (inputs + 1) / 2 * 2 * kPanel * 2;
}

// Of the panels that tiles take at once: a part that stays in the second-level cache while all tiles go over it.
constexpr int64_t kPartBytes = 64 << 10;
// Tiles and rows that stay in the second-level cache while a run of panels goes by.
constexpr int64_t kBandTiles = 16, kBandRows = 256;
constexpr int64_t kLine = 64;  // bytes of a cache line

const Gemm& gemm_of(const Kernels& kernels, WeightType type) {
  return kernels.*kStorage[static_cast<size_t>(type)].gemm;
}

// Rows cut into tiles of nearly equal height, packed one tile after the other.
struct PackedRows {
  const Gemm* gemm;
  int64_t rows, depth;
  int64_t tiles;
  std::byte* data;

  int64_t tile_begin(int64_t tile) const { return rows * tile / tiles; }
  int64_t tile_rows(int64_t tile) const { return tile_begin(tile + 1) - tile_begin(tile); }
  std::byte* tile_data(int64_t tile) const { return data + tile_begin(tile) * depth * gemm->input_bytes; }
};

}  // namespace

WeightType weight_type_by_name(std::string_view name) {
  std::string known;
  for (const WeightKind& kind : kWeightKinds) {
    if (kind.name == name) return kind.type;
    known += (known.empty() ? "" : ", ") + std::string(kind.name);
  }
  throw InvalidArgument(error_text("weights", "a type out of " + known, "'" + std::string(name) + "'"));
}

std::string_view weight_type_name(WeightType type) {
  return kWeightKinds[static_cast<size_t>(type)].name;
}

double bytes_per_weight(WeightType type) {
  return static_cast<double>(panel_bytes(kSuperblock, type)) / static_cast<double>(kSuperblock * kPanel);
}

PackedMatrix PackedMatrix::empty(int64_t outputs, int64_t inputs, WeightType type, WeightMemory& memory) {
  PackedMatrix matrix;
  matrix.outputs_ = outputs;
  matrix.inputs_ = inputs;
  matrix.type_ = type;
  matrix.bytes_ = panels_of(outputs) * panel_bytes(inputs, type);
  matrix.data_ = memory.allocate(static_cast<size_t>(matrix.bytes_));
  return matrix;
}

PackedMatrix::PackedMatrix(const float* weights, int64_t outputs, int64_t inputs, WeightType type, WeightMemory& memory)
    : PackedMatrix(empty(outputs, inputs, type, memory)) {
  // Packing takes longer than reading.
  constexpr int64_t kRowsPerPiece = 256;
  const int64_t pieces = (outputs + kRowsPerPiece - 1) / kRowsPerPiece;
  const int64_t threads = std::min<int64_t>(pieces, std::max(1u, std::thread::hardware_concurrency()));
  if (threads < 2) {
    exact_ = pack_rows(weights, 0, outputs);
    return;
  }
  std::atomic<int64_t> next{0};
  std::atomic<bool> exact{true};
  const auto work = [&] {
    for (int64_t piece = next++; piece < pieces; piece = next++) {
      const int64_t begin = piece * kRowsPerPiece;
      if (!pack_rows(weights + begin * inputs, begin, std::min(kRowsPerPiece, outputs - begin))) exact = false;
    }
  };
  std::vector<std::jthread> workers;  // joined here whatever happens
  for (int64_t t = 1; t < threads; ++t) workers.emplace_back(work);
  work();
  workers.clear();
  exact_ = exact;
}

bool PackedMatrix::pack_quantized(const QuantizedFormat& format, const float* row, int64_t output) {
  std::byte* panel = data_.get() + output / kPanel * panel_bytes(inputs_, type_);
  const int64_t lane = output % kPanel;
  bool exact = true;
  for (int64_t g = 0; g < padded_inputs(inputs_) / kScaleGroup; ++g) {
    const int64_t count = std::clamp<int64_t>(inputs_ - g * kScaleGroup, 0, kScaleGroup);
    float error = 0;
    const QuantizedGroup group = quantize_group(format, row + std::min(inputs_, g * kScaleGroup), count, &error);
    exact = exact && error == 0;
    std::byte* block = panel + g / 2 * format.superblock_bytes();
    std::memcpy(block + g % 2 * 32 + lane * 2, &group.d, 2);
    if (format.minimum) std::memcpy(block + 64 + g % 2 * 32 + lane * 2, &group.m, 2);
    std::byte* weights = block + format.header_bytes() + g % 2 * format.group_bytes();
    for (int64_t k = 0; k < format.group_bytes() / kPanel; k += 4) {  // four weights at a time
      uint32_t four = 0, later = 0;
      std::memcpy(&four, group.q + k, 4);
      if (format.bits == 4) std::memcpy(&later, group.q + k + kScaleGroup / 2, 4);
      four |= later << 4;
      std::memcpy(weights + byte_of_weight(format, lane, k), &four, 4);
    }
  }
  return exact;
}

bool PackedMatrix::pack_rows(const float* weights, int64_t begin, int64_t count) {
  ESPALIER_CHECK(begin % kPanel == 0 && begin + count <= outputs_);
  const int64_t bytes = panel_bytes(inputs_, type_), pairs = (inputs_ + 1) / 2;
  std::vector<float> rounded(static_cast<size_t>(type_ == WeightType::kBf16 ? kPanel * pairs : 0));  // pairs of bf16
  bool exact = true;
  for (int64_t first = 0; first < count; first += kPanel) {
    std::byte* panel = data_.get() + (begin + first) / kPanel * bytes;
    const int64_t lanes = std::min<int64_t>(kPanel, count - first);
    if (const QuantizedFormat* format = format_of(type_)) {
      std::memset(panel, 0, static_cast<size_t>(bytes));
      for (int64_t lane = 0; lane < lanes; ++lane) {
        exact &= pack_quantized(*format, weights + (first + lane) * inputs_, begin + first + lane);
      }
      continue;
    }
    if (lanes < kPanel || inputs_ % 2 == 1) std::memset(panel, 0, static_cast<size_t>(bytes));
    const float* rows = weights + first * inputs_;
    if (type_ == WeightType::kF32) {
      transpose(rows, inputs_, lanes, inputs_, reinterpret_cast<float*>(panel), kPanel);
      continue;
    }
    for (int64_t lane = 0; lane < lanes; ++lane) {
      bf16* row = reinterpret_cast<bf16*>(rounded.data() + lane * pairs);
      for (int64_t k = 0; k < inputs_; ++k) row[k] = float_to_bf16(rows[lane * inputs_ + k]);
    }
    transpose(rounded.data(), pairs, lanes, pairs, reinterpret_cast<float*>(panel), kPanel);
  }
  return exact;
}

void PackedMatrix::row(int64_t output, float* out) const {
  const std::byte* panel = data_.get() + output / kPanel * panel_bytes(inputs_, type_);
  const int64_t lane = output % kPanel;
  if (const QuantizedFormat* format = format_of(type_)) {
    for (int64_t k = 0; k < inputs_; ++k) {
      const int64_t g = k / kScaleGroup, own = k % kScaleGroup;
      const std::byte* block = panel + g / 2 * format->superblock_bytes();
      const std::byte* weights = block + format->header_bytes() + g % 2 * format->group_bytes();
      QuantizedGroup group;
      std::memcpy(&group.d, block + g % 2 * 32 + lane * 2, 2);
      if (format->minimum) std::memcpy(&group.m, block + 64 + g % 2 * 32 + lane * 2, 2);
      const int packed = std::to_integer<int>(weights[byte_of_weight(*format, lane, own)]);
      group.q[own] = static_cast<uint8_t>((packed >> shift_of_weight(*format, own)) & ((1 << format->bits) - 1));
      out[k] = group.value(*format, own);
    }
    return;
  }
  for (int64_t k = 0; k < inputs_; ++k) {
    if (type_ == WeightType::kF32) {
      out[k] = reinterpret_cast<const float*>(panel)[k * kPanel + lane];
    } else {
      out[k] = bf16_to_float(reinterpret_cast<const bf16*>(panel)[k / 2 * 2 * kPanel + 2 * lane + k % 2]);
    }
  }
}

namespace {

struct Panels {
  const PackedMatrix* weights;
  int64_t begin, end;
};

// The panels of one matrix for all rows: what a task computes.
void multiply_panels(const Panels& panels, const PackedRows& x, const OutputRows& out) {
  const PackedMatrix& weights = *panels.weights;
  const int64_t bytes = panel_bytes(weights.inputs(), weights.type());
  const bool quantized = format_of(weights.type()) != nullptr;
  const int64_t depth = quantized                             ? padded_inputs(weights.inputs())
                        : weights.type() == WeightType::kBf16 ? (weights.inputs() + 1) / 2 * 2
                                                              : weights.inputs();
  const int64_t input_bytes = bytes / depth;  // 16 weights
  const Gemm& gemm = *x.gemm;
  const int64_t all_panels = panels_of(weights.outputs());
  GemmTile tile{.x_depth = x.depth,
                .panel_stride = quantized ? bytes : depth * kPanel,
                .y_stride = out.y_stride,
                .prefetch = reinterpret_cast<const char*>(weights.data()),
                .prefetch_step = 0};
  tile.stream = x.rows <= gemm.stream_rows;
  const auto run = [&](int64_t row_tile, int64_t panel, int64_t count, int64_t begin, int64_t end) {
    const int64_t row = x.tile_begin(row_tile);
    tile.rows = x.tile_rows(row_tile);
    tile.x = x.tile_data(row_tile);
    tile.begin = begin;
    tile.weights = weights.data() + panel * bytes + begin * input_bytes;
    tile.depth = end - begin;
    tile.panels = count;
    tile.outputs = weights.outputs() - panel * kPanel;
    tile.y = out.y + row * out.y_stride + panel * kPanel;
    tile.continues = begin > 0;
    gemm.tile(tile);
  };
  if (tile.stream) {
    tile.prefetch = reinterpret_cast<const char*>(weights.data()) + panels.begin * bytes + gemm.ahead_bytes;
    tile.prefetch_step = kLine;
    return run(0, panels.begin, panels.end - panels.begin, 0, depth);
  }

  const int64_t part_bytes = kPartBytes / gemm.tile_panels;
  const int64_t parts = std::clamp<int64_t>((bytes + part_bytes - 1) / part_bytes, 1, std::max<int64_t>(1, depth / 64));
  const auto part_begin = [&](int64_t part) { return depth / gemm.block * part / parts * gemm.block; };
  const int64_t band_tiles = std::clamp<int64_t>(kBandRows / gemm.tile_rows, 1, kBandTiles);
  for (int64_t band = 0; band < x.tiles; band += band_tiles) {
    const int64_t band_end = std::min(x.tiles, band + band_tiles);
    for (int64_t panel = panels.begin, count; panel < panels.end; panel += count) {
      count = std::min(gemm.tile_panels, panels.end - panel);
      // Each call asks for its share of the next panels. In later bands they are in the cache already.
      const bool asks = band == 0 && panel + count + gemm.tile_panels <= all_panels;
      tile.prefetch = reinterpret_cast<const char*>(weights.data()) + (asks ? panel + count : panel) * bytes;
      tile.prefetch_step = asks ? kLine / (band_end - band) : 0;
      for (int64_t part = 0; part < parts; ++part) {
        const int64_t begin = part_begin(part), end = part + 1 == parts ? depth : part_begin(part + 1);
        for (int64_t row_tile = band; row_tile < band_end; ++row_tile) {
          run(row_tile, panel, count, begin, end);
          tile.prefetch += count * (end - begin) * input_bytes / kLine * tile.prefetch_step;
        }
      }
    }
  }
}

}  // namespace

void multiply(const Kernels& kernels, ThreadPool& pool, Arena& scratch, std::span<const PackedMatrix* const> weights,
              const float* x, int64_t rows, int64_t x_stride, std::span<const OutputRows> outputs) {
  if (rows == 0) return;
  const Arena::Mark mark = scratch.mark();
  const int64_t inputs = weights[0]->inputs();
  const Gemm& gemm = gemm_of(kernels, weights[0]->type());
  PackedRows packed{.gemm = &gemm,
                    .rows = rows,
                    .depth = gemm.packed_depth(inputs),
                    .tiles = rows <= gemm.stream_rows ? 1 : (rows + gemm.tile_rows - 1) / gemm.tile_rows,
                    .data = nullptr};
  packed.data = reinterpret_cast<std::byte*>(scratch.floats((rows * packed.depth * gemm.input_bytes + 3) / 4));
  constexpr int64_t kPieceRows = 16;
  const int64_t pieces = gemm.packs_by_rows ? (rows + kPieceRows - 1) / kPieceRows : packed.tiles;
  const auto pack = [&](int64_t piece, int) {
    const int64_t begin = gemm.packs_by_rows ? piece * kPieceRows : packed.tile_begin(piece);
    const int64_t count = gemm.packs_by_rows ? std::min(kPieceRows, rows - begin) : packed.tile_rows(piece);
    gemm.pack(x + begin * x_stride, x_stride, count, inputs, packed.depth,
              packed.data + begin * packed.depth * gemm.input_bytes);
  };
  if (pieces > 6) {  // some 100 rows
    pool.run(pieces, pack);
  } else {
    for (int64_t piece = 0; piece < pieces; ++piece) pack(piece, 0);
  }

  // Tasks: runs of panels of one matrix.
  constexpr int64_t kMaxMatrices = 8;
  int64_t first_task[kMaxMatrices + 1] = {0};
  int64_t run[kMaxMatrices] = {};
  ESPALIER_CHECK(weights.size() <= kMaxMatrices && weights.size() == outputs.size());
  for (size_t m = 0; m < weights.size(); ++m) {
    ESPALIER_CHECK(weights[m]->inputs() == inputs && weights[m]->type() == weights[0]->type());
    const int64_t panels = panels_of(weights[m]->outputs());
    run[m] = panels > 1024 ? 24 : 6;
    first_task[m + 1] = first_task[m] + (panels + run[m] - 1) / run[m];
  }
  pool.run(first_task[weights.size()], [&](int64_t task, int) {
    size_t m = 0;
    while (task >= first_task[m + 1]) ++m;
    const int64_t begin = (task - first_task[m]) * run[m];
    const int64_t end = std::min(panels_of(weights[m]->outputs()), begin + run[m]);
    multiply_panels({weights[m], begin, end}, packed, outputs[m]);
  });
  scratch.release(mark);
}

}  // namespace espalier
