// The contract of an attention mechanism, step half.
//
// A step hands a mechanism one segment at a time: a state and a tree of new rows. The work is cut into tasks
// (KV head x rows, or x a tile of the past) by attention/attend.h; a mechanism computes one task and owns no memory.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "attention/card.h"
#include "attention/spec.h"
#include "attention/state/layer_state.h"
#include "kernels/kernels.h"

namespace espalier {

// Query heads that may share a KV head.
inline constexpr int kMaxHeadsPerKv = 64;

struct AttentionShape {
  int heads = 0;     // H
  int heads_kv = 0;  // Hk, divides H; query head h reads KV head h / (H / Hk)
  int dim_k = 0;     // Dk
  int dim_v = 0;     // Dv
  int hidden = 0;    // d, the width of the rows that q, k and v are projected from
  int layer = 0, layers = 1;
  float scale = 0;    // of q.k in softmax; 0: 1 / sqrt(Dk)
  bool span = false;  // of an encoder: its rows always come as a span

  int heads_per_kv() const { return heads / heads_kv; }
};

// What a mechanism can do; checked when a model is built.
struct Capabilities {
  bool causal = true;
  bool tree = true;
  bool span = false;    // a bidirectional form: SegmentRows::span, after an empty state
  bool source = false;  // spans that see a state, too, or that alone: attention over a source
  bool bias = false;    // takes a relative bias: SegmentRows::bias
  bool constant_state = true;
  bool surrogate_gradient = false;
  int64_t max_length = 0;  // positions that the mechanism knows; 0: any
};

// kIdentity: the last two extents form unit matrices. kOrthogonal: rows of the last two extents are normal vectors
// whose directions are orthogonal, in blocks of as many as the last extent allows (FAVOR+); drawn from the parameter's
// name.
// kMeans: [r, G] of the last two extents average G / r neighbours each. kLastTap: 1 at the end of the last extent, else
// 0: a filter that leaves what it filters as it is.
enum class Init { kZero, kOne, kIdentity, kNormal, kOrthogonal, kMeans, kLastTap };

// A learned parameter of a mechanism, the same for both halves. Stored as
// "model.layers.<layer>.self_attn.<name>".
struct ParameterInfo {
  std::string name;  // "conv.weight"
  std::vector<int64_t> shape;
  Init init = Init::kZero;
  bool feature = false;  // a feature map's weight: trained with the larger learning rate
  bool trained = true;   // false: drawn once and kept
};

// What is added to scaled scores by how far a key stands after its query (negative: before), the same for all that
// stand at least `reach` away (T5).
struct RelativeBias {
  const float* values = nullptr;  // [H][2 reach + 1]; null: none
  int64_t reach = 0;

  float of(int head, int64_t distance) const {
    return values[head * (2 * reach + 1) + reach + std::clamp(distance, -reach, reach)];
  }
  // scores[j] += of(head, distance + j); nothing where there is no bias.
  void add(int head, int64_t distance, int64_t count, float* scores) const {
    if (!values) return;
    for (int64_t j = 0; j < count; ++j) scores[j] += of(head, distance + j);
  }
};

// One segment's new rows in one layer. A node of a tree sees the state, its ancestors and itself; a row of a span sees
// the state and all rows of the span; so does one that brings no keys (keys = 0: attention over a fixed state).
struct SegmentRows {
  const LayerState* state;
  int64_t rows;           // R >= 1
  const int32_t* parent;  // [R] the row before mine on my path, -1: the state; parent[r] < r
  const int32_t* depth;   // [R] rows before mine on my path; position = state->length() + depth
  bool chain;             // parent[r] == r - 1 for all r; of a span, too
  const float* q;         // [R, H, Dk] after rotary, rows q_stride floats apart
  const float* k;         // [R, Hk, Dk] after rotary, rows k_stride floats apart
  const float* v;         // [R, Hk, Dv], rows v_stride floats apart
  int64_t q_stride, k_stride, v_stride;
  float* out;  // [R, H, Dv], rows out_stride floats apart
  int64_t out_stride;
  const float* hidden = nullptr;  // [R, d] what q, k and v were projected from, rows hidden_stride floats apart
  int64_t hidden_stride = 0;
  bool span = false;
  bool keys = true;  // of a span: its rows are keys, not queries only
  RelativeBias bias = {};
  float* extra = nullptr;  // [R, Hk, layout.dim_extra], without gaps: prepare() fills it for its KV head

  // The first position that a row does not see.
  int64_t seen_end(int64_t row) const { return span ? state->length() + (keys ? rows : 0) : position(row) + 1; }
  int64_t position(int64_t row) const { return state->length() + depth[row]; }
  float* extra_of(int64_t row, int kv_head) const {
    const StateLayout& layout = state->layout();
    return extra + (row * layout.heads_kv + kv_head) * layout.dim_extra;
  }
};

// Rows that go into a fold: k [count, Dk], v [count, Dv], extra [count, dim_extra] of positions first, first + 1, …,
// each so many floats apart.
struct FoldRows {
  int64_t first, count;
  const float *k, *v, *extra;
  int64_t k_stride, v_stride, extra_stride;
  // What prepare() has made of these rows, where it says so (k and extra are not given then): features [M], row j's the
  // (feature_row + j)-th of feature_turn rows that come in turn.
  const float* features = nullptr;
  int64_t feature_row = 0, feature_turn = 0;

  const float* k_row(int64_t row) const { return k + row * k_stride; }
  const float* v_row(int64_t row) const { return v + row * v_stride; }
  const float* extra_row(int64_t row) const { return extra + row * extra_stride; }
};

class ShortConvolution;

// A long chain goes through slice by slice, so that what is prepared for some rows is still in the cache when they
// attend.
inline constexpr int64_t kSlice = 64;
static_assert(kSlice % kPanel == 0);

class Mechanism {
 public:
  virtual ~Mechanism() = default;

  virtual Capabilities capabilities() const = 0;
  virtual StateLayout layout() const = 0;
  virtual std::vector<ParameterInfo> parameters() const { return {}; }
  // Takes the values of parameters(), in their order, each row-major.
  virtual void load(const std::vector<std::vector<float>>& values) { (void)values; }

  // What q, k and v go through before they come here; null: nothing.
  virtual const ShortConvolution* short_convolution() const { return nullptr; }

  // fold = `before` and the rows of one block, all of them but sinks. Called block by block in position order; `before`
  // may be `fold` itself.
  virtual void fold_rows(const Kernels& kernels, int kv_head, const FoldRows& rows, const float* before,
                         float* fold) const {
    (void)kernels, (void)kv_head, (void)rows, (void)before, (void)fold;
  }

  // What rows [begin, end) can say by themselves, for all KV heads: gates. Writes into their `extra`, from where
  // prepare() takes it. Called only if has_gates().
  virtual bool has_gates() const { return false; }
  virtual void make_gates(const Kernels& kernels, const SegmentRows& segment, int64_t begin, int64_t end) const {
    (void)kernels, (void)segment, (void)begin, (void)end;
  }

  // Floats of memory that prepare() fills per KV head and attend() reads.
  virtual int64_t prepared_floats(const SegmentRows& segment) const = 0;
  // Work that rows [begin, end) of one KV head and those after them share: panels of the new keys, folds at the block
  // borders that the rows cross. Called for slices of a chain's rows that begin at multiples of kSlice, in turn, each
  // before its rows attend; for all nodes of a tree at once.
  virtual void prepare(const Kernels& kernels, const SegmentRows& segment, int kv_head, int64_t begin, int64_t end,
                       float* prepared) const = 0;
  // Floats of scratch that one attend() call needs; its content is undefined on entry.
  virtual int64_t scratch_floats(const SegmentRows& segment) const = 0;
  // Writes out[row, h, :] for rows [begin, end) and the query heads of kv_head.
  virtual void attend(const Kernels& kernels, const SegmentRows& segment, int kv_head, int64_t begin, int64_t end,
                      const float* prepared, float* scratch) const = 0;

  // A tree over a long past: tasks take a tile of the past each, once for all rows, and leave `found` [tile_floats()],
  // of which merge_tiles() makes the rows' results: the bits of attend(). 0 tiles: not this mechanism, or these rows.
  virtual int64_t past_tiles(const SegmentRows& segment) const {
    (void)segment;
    return 0;
  }
  virtual int64_t tile_floats(const SegmentRows& segment) const {
    (void)segment;
    return 0;
  }
  virtual void attend_tile(const Kernels& kernels, const SegmentRows& segment, int kv_head, int64_t tile,
                           const float* prepared, float* scratch, float* found) const {
    (void)kernels, (void)segment, (void)kv_head, (void)tile, (void)prepared, (void)scratch, (void)found;
  }
  // found [tiles][tile_floats()]; changes it.
  virtual void merge_tiles(const Kernels& kernels, const SegmentRows& segment, int kv_head, int64_t tiles,
                           float* found) const {
    (void)kernels, (void)segment, (void)kv_head, (void)tiles, (void)found;
  }

  // A norm over all heads of a row, out [H * Dv], once the row is complete: the layer's part of a mechanism.
  virtual bool finishes() const { return false; }
  virtual void finish(const Kernels& kernels, float* out) const { (void)kernels, (void)out; }
};

// The card of a mechanism that is not of this tree (mechanisms.def): handed along (LoadOptions).
using MechanismEntry = AttentionCard;

// Builds a mechanism from a SPEC, out of this tree's and `more`. Throws InvalidArgument (unknown name: lists the known
// ones; bad option), NotSupported for more than kMaxHeadsPerKv query heads on a KV head.
std::unique_ptr<Mechanism> make_mechanism(const AttentionSpec& spec, const AttentionShape& shape,
                                          const std::vector<MechanismEntry>& more = {});
// The names that make_mechanism knows.
std::vector<std::string> mechanism_names();

}  // namespace espalier
