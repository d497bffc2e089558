// What one layer of one sequence remembers.
//
// A state is a fold and open rows. Positions are counted in blocks of `block`; with P committed rows the
// next position lies in block b = P / block, the fold holds the rows of blocks <= b - 1 - lag in position
// order, and the rows of later blocks wait, as the projections gave them (k after rotary, v), so every
// mechanism and every sum of mechanisms works from the same rows. The first `sinks` rows may be kept for ever
// and never enter the fold. With block == 0 nothing folds and every row stays: softmax's KV cache.
//
// Everything here depends on P and the rows only, never on how they were cut into steps.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/copy_on_write.h"
#include "kernels/kernels.h"

namespace espalier {

class Mechanism;

struct StateLayout {
  int heads_kv = 0, dim_k = 0, dim_v = 0;
  int dim_extra = 0;        // what else a row holds: made by the mechanism when the row is new, kept beside k and v
  int64_t block = 0;        // 0: every row stays
  int64_t lag = 1;          // whole blocks before the open one that stay rows
  int64_t tail = 0;         // rows before the next position that stay whatever their block (conv: taps - 1)
  int64_t sinks = 0;        // first rows that stay,
  bool sinks_fold = false;  // and never fold, or do
  int64_t fold_floats = 0;  // floats of fold per KV head; 0: rows are dropped when their block leaves
  bool fold_grows = false;  // each block that leaves gets a fold of its own, zero at first, behind those before it

  bool bounded() const { return block > 0; }
  int64_t unfolded() const { return sinks_fold ? 0 : sinks; }  // first rows that never fold
  // The longest tree depth that may follow `length` rows. A row that is no row any more to some node, because it has
  // folded or is a sink that the node looks back on, must be committed: siblings would need folds or sinks of their
  // own.
  int64_t max_tree_depth(int64_t length) const;
  bool operator==(const StateLayout&) const = default;
};

// A value: copying it forks the sequence. Forks share their rows until one of them takes a row in. Not thread-safe for
// writing; forks are values of their own.
class LayerState {
 public:
  LayerState() = default;
  explicit LayerState(const StateLayout& layout);

  const StateLayout& layout() const { return layout_; }
  int64_t length() const { return length_; }              // P
  int64_t first_row() const;                              // the first position whose row is held (sinks aside)
  int64_t fold_end() const { return fold_end(length_); }  // positions < fold_end() are in the fold (sinks aside)
  // The same for a node at `position`: what its fold must hold. 0 when nothing folds.
  int64_t fold_end(int64_t position) const;
  // The first position that a node at `position` sees as a row (sinks and `tail` aside).
  int64_t window_begin(int64_t position) const { return layout_.bounded() ? fold_end(position) : 0; }

  // Rows by absolute position, first_row() <= position < length().
  // Keys stand in panels of 16 positions aligned to 0: [dim_k][16]; lanes outside the held rows are undefined.
  const float* k_panel(int kv_head, int64_t position) const;  // the panel that holds `position`
  const float* v_row(int kv_head, int64_t position) const;    // [dim_v]
  // How many rows from `position` on lie one after the other in memory, dim_v floats apart (a ring wraps).
  int64_t v_run(int64_t position) const;
  void copy_k_row(int kv_head, int64_t position, float* out) const;  // [dim_k]
  const float* extra_row(int kv_head, int64_t position) const;       // [dim_extra]

  int64_t sinks_held() const;                    // min(length, sinks)
  const float* sink_k_panel(int kv_head) const;  // [dim_k][16], sinks <= 16
  const float* sink_v_row(int kv_head, int64_t position) const;

  const float* fold(int kv_head) const;  // [fold_floats], or [blocks that have left][fold_floats]

  // Takes one row in: k [heads_kv, dim_k], v [heads_kv, dim_v], extra [heads_kv, dim_extra]; folds a block when the
  // next position leaves it behind. `mechanism` is the one whose layout this is. Call reserve() first for a no-throw
  // guarantee.
  void append(const Kernels& kernels, const Mechanism& mechanism, const float* k, const float* v, const float* extra);
  // Room for `rows` more rows; the only part of a commit that can fail.
  void reserve(int64_t rows);

  // Bytes that this state takes: fixed from the start when bounded, growing by whole tiles otherwise.
  int64_t bytes() const;
  // Canonical bytes: length, fold, sinks, live rows in position order. Equal states give equal bytes.
  void serialize(std::string& out) const;
  // The inverse; consumes from `in`. Throws CorruptFile on any disagreement with `layout`.
  static LayerState deserialize(const StateLayout& layout, std::string_view& in, const std::string& where);

 private:
  int64_t panel_slot(int64_t position) const;
  int64_t folds_at(int64_t length) const;  // how many folds a KV head has
  int64_t first_row_at(int64_t length) const;

  struct Rows {
    int64_t panels = 0;                     // allocated panels per head (ring size when bounded)
    std::vector<std::vector<float>> k, v;   // per KV head: [panels][dim_k][16], [panels * 16][dim_v]
    std::vector<std::vector<float>> extra;  // per KV head: [panels * 16][dim_extra]
    std::vector<float> sink_k, sink_v;      // [heads_kv][dim_k][16], [heads_kv][sinks][dim_v]
    std::vector<std::vector<float>> fold;   // per KV head
  };

  StateLayout layout_;
  int64_t length_ = 0;
  CopyOnWrite<Rows> rows_;
};

}  // namespace espalier
