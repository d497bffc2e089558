// The tables of kernels, one per instruction set. A table is passed along, never a global choice, so a
// test can run every path that the machine has and compare bits.
//
// Arithmetic law (ARCHITECTURE.md, "Exactness"): every output element has ONE accumulator, updated by
// fused multiply-add in ascending index; SIMD lanes are outputs; reductions along a row use 16 virtual
// lanes and one fixed tree. All tables therefore give the same bits, but for kAmx's product of bf16.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "core/activation.h"

namespace espalier {

// kAvx512Bf16: AVX-512 with dot products of bf16 pairs. kAmx: it with products of small matrices.
enum class Isa { kScalar, kAvx2, kAvx512, kAvx512Bf16, kAmx };

// A panel holds 16 outputs side by side.
inline constexpr int kPanel = 16;

// One tile of a product: a few rows against one or more panels.
//   y[r, o] = sum_k x[r, k] * w[o, k]
struct GemmTile {
  const void* x;         // what Gemm::pack made of these rows,
  int64_t x_depth;       // with this depth
  int64_t begin;         // the first input of this part
  int64_t rows;          // 1..Gemm::tile_rows; of a stream 1..Gemm::stream_rows
  const void* weights;   // input `begin` of the first panel, see kernels/packed_matrix.h
  int64_t depth;         // how many inputs; even for bf16, whole superblocks of quantized weights
  int64_t panels;        // how many panels,
  bool stream;           // one after the other, in the order of memory; else side by side
  int64_t panel_stride;  // weights from one panel to the next (bytes, where they are quantized)
  int64_t outputs;       // outputs from the first panel on that exist; the last panel may be partial
  float* y;              // y[r, o] at y + r * y_stride + o
  int64_t y_stride;
  bool continues;         // the sums start from what y holds
  const char* prefetch;   // memory that will be read next: asked for along the way,
  int64_t prefetch_step;  // this many bytes with each 64 bytes of weights, whatever panel they are of
};

// The product of one weight type.
struct Gemm {
  int64_t tile_rows;        // most rows of a tile
  int64_t tile_panels = 1;  // that it takes best, where rows are many
  int64_t block;            // a part of the inputs begins at a multiple of this
  int64_t stream_rows;      // up to so many rows, panels go by one after the other, in the order of memory
  int64_t input_bytes;      // of one input of one packed row
  int64_t (*packed_depth)(int64_t inputs);  // inputs that a packed row has room for
  // What tiles want of some rows: x [rows, inputs], rows x_stride apart, rounded to the weight type, with a zero where
  // the weights have an input more; as [depth][rows] or [rows][depth], as the tile function reads it.
  void (*pack)(const float* x, int64_t x_stride, int64_t rows, int64_t inputs, int64_t depth, void* out);
  bool packs_by_rows = false;  // [rows][depth]: any rows of a tile can be packed by themselves
  int64_t ahead_bytes = 4096;  // how far ahead of a stream of weights memory is asked for
  void (*tile)(const GemmTile&);
};

// scores[i, 16 p + lane] = sum_d q[i][d] * panel_p[d, lane], d ascending: rows against panels [dim, 16].
struct PanelScores {
  const float* const* q;  // [count] rows [dim]
  int count;
  const float* panel;  // the first,
  int64_t panels = 1;
  int64_t panel_stride = 0;  // floats from one to the next
  int64_t dim;
  float* scores;  // rows score_stride floats apart
  int64_t score_stride;
};

// out_q[c] = fma(weights_q[j], rows[j][c], out_q[c]), j ascending, for all queries q: starts from what `out` holds,
// from start_factor * start_q[c], or from zero.
struct WeightedSum {
  const float* weights;       // [queries][count]: weight_stride from a query to the next,
  int64_t weight_step = 1;    // this from a weight to the next
  int64_t weight_stride = 0;  // strides of queries do not matter when there is one
  int64_t queries = 1;
  const float* rows;               // row j at rows + j * row_stride,
  const int32_t* index = nullptr;  // or, when given, at rows + index[j] * row_stride
  int64_t count;
  int64_t stagger = 0;  // not 0: query q goes over count + q / stagger rows, as the rows of a chain see each other
  int64_t row_stride;
  int64_t dim;
  float* out;  // [queries][dim], out_stride apart
  int64_t out_stride = 0;
  const float* start = nullptr;  // [queries][dim], start_stride apart (0: as `out`); null: `out`, as it is
  int64_t start_stride = 0;
  float start_factor = 1.0f;
  bool from_zero = false;
};

// The exponentials that softmax over rows needs, in place: x = exp(factor * x - maximum), sum = their sum over 16
// virtual lanes. maximum is that of factor * x, as Kernels::max finds it.
struct ExpRows {
  float* x;  // [rows][count], `stride` apart
  int64_t stride = 0;
  int64_t rows = 1;
  int64_t count;
  int64_t stagger = 0;  // not 0: row r has count + r / stagger elements, as the rows of a chain see each other
  float factor = 1.0f;
  float *maxima, *sums;  // [rows]

  int64_t count_of(int64_t row) const { return count + (stagger > 0 ? row / stagger : 0); }
};

struct Kernels {
  Isa isa;

  // --- kernels/gemm.cpp
  // f32 panels: acc = fma(x[k], w[k], acc), k ascending.
  Gemm gemm_f32;
  // 8- and 4-bit panels: kernels/quantized.h says what is computed.
  Gemm gemm_int8, gemm_int4, gemm_int4_min;
  // bf16 panels: per pair of inputs the odd element first, then the even one, which is what vdpbf16ps does. kAmx: per
  // 32 inputs y += even + odd, the even ones' sum and that of the odd ones, each from zero: what tdpbf16ps does.
  Gemm gemm_bf16;

  // --- kernels/rows.cpp: one row at a time, n elements
  // y = x / sqrt(mean(x^2) + eps) * weight
  void (*rms_norm)(const float* x, const float* weight, double eps, int64_t n, float* y);
  // y = (x - mean(x)) / sqrt(mean((x - mean(x))^2) + eps) * weight + bias
  void (*layer_norm)(const float* x, const float* weight, const float* bias, double eps, int64_t n, float* y);
  // y = a + b
  void (*add)(const float* a, const float* b, int64_t n, float* y);
  // y = f(x), and y = f(gate) * up
  void (*activate)(Activation f, const float* x, int64_t n, float* y);
  void (*activate_mul)(Activation f, const float* gate, const float* up, int64_t n, float* y);
  // In place, halves layout: (x[i], x[i + n/2]) rotated by the angle whose cos and sin stand at [i].
  void (*rotate)(float* x, const float* cosine, const float* sine, int64_t n);
  // y = exp(x - shift); returns the sum over 16 virtual lanes. n may be 0 (returns 0).
  float (*exp_sum)(const float* x, float shift, int64_t n, float* y);
  void (*exp_rows)(const ExpRows&);
  // sine = scale * sin(angle), cosine likewise, to about 1e-7 of scale; angle = x * factor, rounded to f32. One beyond
  // 8192 is taken as NaN.
  void (*sin_cos)(const float* x, float factor, float scale, int64_t n, float* sine, float* cosine);
  // max over x, -inf when n is 0. NaN is ignored.
  float (*max)(const float* x, int64_t n);
  // sum of x^2 and of x*y over 16 virtual lanes
  float (*dot)(const float* x, const float* y, int64_t n);
  // y = x * factor
  void (*scale)(const float* x, float factor, int64_t n, float* y);
  // y = fma(a, b, y)
  void (*add_product)(const float* a, const float* b, int64_t n, float* y);
  // y = fma(x, factor, y)
  void (*add_scaled)(const float* x, float factor, int64_t n, float* y);
  // y = y * (x * factor)
  void (*multiply_scaled)(const float* x, float factor, int64_t n, float* y);
  // log(sum(exp(x))) with the maximum taken out, sum and exp in double, 16 virtual lanes.
  double (*log_sum_exp)(const float* x, int64_t n);

  // --- kernels/attention.cpp
  void (*panel_scores)(const PanelScores&);
  // sums[lane] = sum_d panel[d, lane]^2, d ascending: the squared lengths of 16 keys.
  void (*panel_squares)(const float* panel, int64_t dim, float* sums);
  // out[d, lane] = panel[d, lane] * exp(until[d] - sums[d, lane]): 16 keys with the log-decays `sums` beside them, as a
  // row sees them where those have grown to `until`. Lanes behind that row may become inf or NaN, each by itself.
  void (*decay_panel)(const float* panel, const float* sums, const float* until, int64_t dim, float* out);
  void (*weighted_sum)(const WeightedSum&);
};

// The sets that this processor can run, kScalar first, fastest last.
std::vector<Isa> supported_isas();
std::string_view isa_name(Isa isa);  // "scalar", "avx2", "avx512", "avx512-bf16", "amx"
// Throws InvalidArgument listing those that this processor can run.
Isa isa_by_name(std::string_view name);
// Throws NotSupported when this processor lacks it.
const Kernels& kernels_for(Isa isa);
// The fastest table.
const Kernels& best_kernels();

}  // namespace espalier
