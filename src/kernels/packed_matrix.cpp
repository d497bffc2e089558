#include "kernels/packed_matrix.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "core/error.h"
#include "core/half.h"

namespace espalier {
namespace {

int64_t panels_of(int64_t outputs) {
  return (outputs + kPanel - 1) / kPanel;
}

int64_t panel_bytes(int64_t inputs, WeightType type) {
  return type == WeightType::kF32 ? inputs * kPanel * 4 : (inputs + 1) / 2 * 2 * kPanel * 2;
}

// From this many rows on a bf16 panel is widened once instead of in every tile.
constexpr int64_t kWidenRows = 3 * kTileRows;

// Rows cut into tiles of nearly equal height, packed [K][rows] one tile after the other.
struct PackedRows {
  int64_t rows, depth;  // depth: K, rounded up to even for bf16
  int64_t tiles;
  const float* data;
  const float* odd_first;  // the same with each pair of inputs swapped; null where not needed

  int64_t tile_begin(int64_t tile) const { return rows * tile / tiles; }
  int64_t tile_rows(int64_t tile) const { return tile_begin(tile + 1) - tile_begin(tile); }
};

struct InputRows {
  const float* x;
  int64_t x_stride;
};

struct PackOrder {
  bool round = false;  // to bf16
  bool swap = false;   // odd input of each pair first
};

void pack_tile(const InputRows& rows, int64_t begin, int64_t count, int64_t inputs, int64_t depth, PackOrder order,
               float* out) {
  for (int64_t r = 0; r < count; ++r) {
    const float* x = rows.x + (begin + r) * rows.x_stride;
    for (int64_t k = 0; k < depth; ++k) {
      const float value = k < inputs ? x[k] : 0.0f;
      const int64_t place = order.swap ? k ^ 1 : k;
      out[place * count + r] = order.round ? bf16_to_float(float_to_bf16(value)) : value;
    }
  }
}

}  // namespace

WeightType weight_type_by_name(std::string_view name) {
  for (const WeightType type : {WeightType::kF32, WeightType::kBf16}) {
    if (weight_type_name(type) == name) return type;
  }
  throw InvalidArgument(error_text("weights", "f32 or bf16", "'" + std::string(name) + "'"));
}

std::string_view weight_type_name(WeightType type) {
  return type == WeightType::kF32 ? "f32" : "bf16";
}

PackedMatrix PackedMatrix::empty(int64_t outputs, int64_t inputs, WeightType type) {
  PackedMatrix matrix;
  matrix.outputs_ = outputs;
  matrix.inputs_ = inputs;
  matrix.type_ = type;
  matrix.data_ = AlignedBuffer<std::byte>(static_cast<size_t>(panels_of(outputs) * panel_bytes(inputs, type)));
  return matrix;
}

PackedMatrix::PackedMatrix(const float* weights, int64_t outputs, int64_t inputs, WeightType type)
    : PackedMatrix(empty(outputs, inputs, type)) {
  pack_rows(weights, 0, outputs);
}

void PackedMatrix::pack_rows(const float* weights, int64_t begin, int64_t count) {
  ESPALIER_CHECK(begin % kPanel == 0 && begin + count <= outputs_);
  const int64_t bytes = panel_bytes(inputs_, type_);
  for (int64_t first = 0; first < count; first += kPanel) {
    std::byte* panel = data_.data() + (begin + first) / kPanel * bytes;
    const int64_t lanes = std::min<int64_t>(kPanel, count - first);
    if (lanes < kPanel || inputs_ % 2 == 1) std::memset(panel, 0, static_cast<size_t>(bytes));
    for (int64_t lane = 0; lane < lanes; ++lane) {
      const float* row = weights + (first + lane) * inputs_;
      if (type_ == WeightType::kF32) {
        float* out = reinterpret_cast<float*>(panel) + lane;
        for (int64_t k = 0; k < inputs_; ++k) out[k * kPanel] = row[k];
      } else {
        bf16* out = reinterpret_cast<bf16*>(panel) + 2 * lane;
        for (int64_t k = 0; k < inputs_; ++k) out[k / 2 * 2 * kPanel + k % 2] = float_to_bf16(row[k]);
      }
    }
  }
}

void PackedMatrix::row(int64_t output, float* out) const {
  const std::byte* panel = data_.data() + output / kPanel * panel_bytes(inputs_, type_);
  const int64_t lane = output % kPanel;
  for (int64_t k = 0; k < inputs_; ++k) {
    if (type_ == WeightType::kF32) {
      out[k] = reinterpret_cast<const float*>(panel)[k * kPanel + lane];
    } else {
      out[k] = bf16_to_float(reinterpret_cast<const bf16*>(panel)[k / 2 * 2 * kPanel + 2 * lane + k % 2]);
    }
  }
}

namespace {

// The panels of one matrix for all row tiles: what a task computes.
void multiply_panels(const Kernels& kernels, const PackedMatrix& weights, const PackedRows& x, float* y,
                     int64_t y_stride, int64_t panel_begin, int64_t panel_end, float* widened) {
  const int64_t bytes = panel_bytes(weights.inputs(), weights.type());
  const bool bf16_weights = weights.type() == WeightType::kBf16;
  const auto kernel = bf16_weights && !widened ? kernels.gemm_bf16 : kernels.gemm_f32;
  const auto tile_of = [&](int64_t tile, const float* data, const void* panel, int64_t first, int64_t count) {
    const int64_t begin = x.tile_begin(tile);
    return GemmTile{.x = data + begin * x.depth,
                    .rows = x.tile_rows(tile),
                    .weights = panel,
                    .depth = x.depth,
                    .panels = count,
                    .outputs = weights.outputs() - first * kPanel,
                    .y = y + begin * y_stride + first * kPanel,
                    .y_stride = y_stride,
                    .prefetch = nullptr,
                    .prefetch_bytes = 0};
  };
  if (x.tiles == 1) {
    kernel(tile_of(0, x.data, weights.data() + panel_begin * bytes, panel_begin, panel_end - panel_begin));
    return;
  }
  for (int64_t panel = panel_begin; panel < panel_end; ++panel) {
    const void* memory = weights.data() + panel * bytes;
    if (widened) {
      kernels.widen_panel(static_cast<const uint16_t*>(memory), x.depth, widened);
      memory = widened;
    }
    // Each of the few tiles asks for its share of the next panel.
    const bool last = panel + 1 == (weights.outputs() + kPanel - 1) / kPanel;
    for (int64_t tile = 0; tile < x.tiles; ++tile) {
      GemmTile job = tile_of(tile, widened ? x.odd_first : x.data, memory, panel, 1);
      if (!last) {
        job.prefetch = reinterpret_cast<const char*>(weights.data()) + (panel + 1) * bytes + bytes * tile / x.tiles;
        job.prefetch_bytes = bytes / x.tiles;
      }
      kernel(job);
    }
  }
}

}  // namespace

void multiply(const Kernels& kernels, ThreadPool& pool, Arena& scratch, std::span<const PackedMatrix* const> weights,
              const float* x, int64_t rows, int64_t x_stride, std::span<const OutputRows> outputs) {
  if (rows == 0) return;
  const Arena::Mark mark = scratch.mark();
  const int64_t inputs = weights[0]->inputs();
  const bool rounds = weights[0]->type() == WeightType::kBf16;
  const bool widens = rounds && rows >= kWidenRows;
  PackedRows packed{.rows = rows,
                    .depth = rounds ? (inputs + 1) / 2 * 2 : inputs,
                    .tiles = (rows + kTileRows - 1) / kTileRows,
                    .data = nullptr,
                    .odd_first = nullptr};
  float* data = scratch.floats(rows * packed.depth);
  (widens ? packed.odd_first : packed.data) = data;
  const auto pack = [&](int64_t tile, int) {
    pack_tile({.x = x, .x_stride = x_stride}, packed.tile_begin(tile), packed.tile_rows(tile), inputs, packed.depth,
              {.round = rounds, .swap = widens}, data + packed.tile_begin(tile) * packed.depth);
  };
  if (packed.tiles > 8) {
    pool.run(packed.tiles, pack);
  } else {
    for (int64_t tile = 0; tile < packed.tiles; ++tile) pack(tile, 0);
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
  float* widened = widens ? scratch.floats(pool.size() * packed.depth * kPanel) : nullptr;
  pool.run(first_task[weights.size()], [&](int64_t task, int worker) {
    size_t m = 0;
    while (task >= first_task[m + 1]) ++m;
    const int64_t begin = (task - first_task[m]) * run[m];
    const int64_t end = std::min(panels_of(weights[m]->outputs()), begin + run[m]);
    multiply_panels(kernels, *weights[m], packed, outputs[m].y, outputs[m].y_stride, begin, end,
                    widened ? widened + worker * packed.depth * kPanel : nullptr);
  });
  scratch.release(mark);
}

}  // namespace espalier
