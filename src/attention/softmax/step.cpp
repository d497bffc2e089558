#include <algorithm>
#include <cmath>

#include "attention/shared/visible_rows.h"
#include "attention/softmax/softmax.h"

namespace espalier {
namespace {

constexpr int64_t kTile = 256;

class Softmax : public Mechanism {
 public:
  explicit Softmax(const AttentionShape& shape) : shape_(shape) {}

  Capabilities capabilities() const override {
    return {.span = true, .source = true, .bias = true, .constant_state = false};
  }
  StateLayout layout() const override {
    return {.heads_kv = shape_.heads_kv, .dim_k = shape_.dim_k, .dim_v = shape_.dim_v};
  }
  // Panels of the keys; of a longer chain its values, too: rows of all heads are often a multiple of 1 KiB apart, all
  // in the same few cache sets, and are read again and again.
  int64_t prepared_floats(const SegmentRows& segment) const override {
    return fresh_panels_floats(segment) + (copies_values(segment) ? segment.rows * shape_.dim_v : 0);
  }
  void prepare(const Kernels&, const SegmentRows& segment, int kv_head, int64_t begin, int64_t end,
               float* prepared) const override {
    make_fresh_panels(segment, kv_head, begin, end, prepared);
    if (!copies_values(segment)) return;
    float* values = prepared + fresh_panels_floats(segment);
    for (int64_t row = begin; row < end; ++row) {
      std::copy_n(segment.v + row * segment.v_stride + int64_t{kv_head} * shape_.dim_v, shape_.dim_v,
                  values + row * shape_.dim_v);
    }
  }
  int64_t scratch_floats(const SegmentRows& segment) const override {
    return segment.rows + kMostQueries * (kTile + kPanel + 2 * int64_t{shape_.dim_v} + 4);
  }
  void attend(const Kernels& kernels, const SegmentRows& segment, int kv_head, int64_t begin, int64_t end,
              const float* prepared, float* scratch) const override {
    const int64_t together = rows_together();
    for (int64_t row = begin; row < end; row += together) {
      attend_rows(kernels, segment, kv_head, row, std::min(end, row + together), prepared, scratch);
    }
  }

  // All rows end in the same tile, of which the first one sees something, or there are none.
  int64_t past_tiles(const SegmentRows& segment) const override {
    const int64_t last = segment.rows == 1 ? segment.seen_end(0) : last_end(segment, 0, segment.rows);
    const int64_t tiles = (last + kTile - 1) / kTile;
    return segment.rows == 1 || (!segment.span && (tiles - 1) * kTile < segment.seen_end(0)) ? tiles : 0;
  }
  int64_t tile_floats(const SegmentRows& segment) const override {
    return segment.rows * shape_.heads_per_kv() * (shape_.dim_v + 2);
  }
  void attend_tile(const Kernels& kernels, const SegmentRows& segment, int kv_head, int64_t tile, const float* prepared,
                   float* scratch, float* found) const override {
    const int heads = shape_.heads_per_kv();
    const int64_t begin = tile * kTile, end = begin + kTile, together = rows_together();
    int32_t* path = reinterpret_cast<int32_t*>(scratch);
    float* scores = scratch + segment.rows;
    for (int64_t row = 0; row < segment.rows; row += together) {
      const int64_t rows_end = std::min(segment.rows, row + together);
      const RowRun run(segment, kv_head, heads, row, rows_end, begin, path);
      const Bias bias{segment, kv_head, heads, row};
      const TileSums sums = found_sums(segment, found).from(row * heads, shape_.dim_v);
      if (end <= shared_end(segment, row) || segment.rows == 1) {
        const VisibleRows first = visible_rows(segment, kv_head, row, prepared, path);
        tile_sums(kernels, first.range(begin, end), {run.q(), run.queries()}, bias, prepared, scores, sums);
      } else if (segment.chain) {
        const VisibleRows last = visible_rows(segment, kv_head, rows_end - 1, prepared, path);
        tile_sums(kernels, last.range(begin, end), {run.q(), run.queries(), 0, heads}, bias, prepared, scores, sums);
      } else {
        tree_tile_sums(kernels, begin, run, bias, prepared, scores, sums);
      }
    }
  }
  void merge_tiles(const Kernels& kernels, const SegmentRows& segment, int kv_head, int64_t tiles,
                   float* found) const override {
    const int heads = shape_.heads_per_kv();
    const TileSums all = found_sums(segment, found);
    const int64_t together = rows_together();
    for (int64_t begin = 0; begin < segment.rows; begin += together) {
      const int64_t end = std::min(segment.rows, begin + together);
      const TileSums running = all.from(begin * heads, shape_.dim_v);
      for (int64_t tile = 1; tile < tiles; ++tile) {
        const TileSums own = found_sums(segment, found + tile * tile_floats(segment));
        merge(kernels, own.from(begin * heads, shape_.dim_v), static_cast<int>(end - begin) * heads, running);
      }
      for (int64_t row = begin; row < end; ++row) {
        const TileSums sums = all.from(row * heads, shape_.dim_v);
        divide_rows(kernels, sums.out, sums.sum, heads, shape_.dim_v, output_of(segment, shape_, kv_head, 0, row));
      }
    }
  }

 private:
  static bool copies_values(const SegmentRows& segment) {
    return segment.chain && segment.keys && segment.rows > kPanel;
  }
  VisibleRows visible_rows(const SegmentRows& segment, int kv_head, int64_t row, const float* prepared,
                           int32_t* path) const {
    return VisibleRows(segment, kv_head, row, path)
        .with_values(copies_values(segment) ? prepared + fresh_panels_floats(segment) : nullptr);
  }

  // Queries that go over a tile of the past together.
  static constexpr int kTileQueries = 24, kMostQueries = std::max(kTileQueries, kMaxHeadsPerKv);
  int64_t rows_together() const { return std::max(1, kTileQueries / shape_.heads_per_kv()); }

  // Sums of some queries over a tile, or over the tiles so far. Tiles begin at multiples of kTile whoever looks, so the
  // sums are the same for a query alone.
  struct TileSums {
    float* out;            // [queries][Dv]
    float *maximum, *sum;  // [queries]

    TileSums from(int64_t query, int64_t dim_v) const { return {out + query * dim_v, maximum + query, sum + query}; }
  };
  TileSums found_sums(const SegmentRows& segment, float* found) const {
    const int64_t queries = segment.rows * shape_.heads_per_kv();
    return {found + 2 * queries, found, found + queries};
  }

  // Those over the tiles so far, and memory for one more.
  struct Running : TileSums {
    float* scores;  // [queries][kTile], then [queries][16]
    TileSums tile;

    Running from(int64_t query, int64_t dim_v) const { return {TileSums::from(query, dim_v), scores, tile}; }
  };

  // Queries that go over the same rows; first, … to a Bias. With `stagger`, so many of them end at the last row, as
  // many one row before it, and so on.
  struct Queries {
    const float* const* q;
    int count, first = 0, stagger = 0;
  };

  // What rows from `begin` on add to their scores.
  struct Bias {
    const SegmentRows& segment;
    int kv_head, heads;
    int64_t begin;

    // Of query `query`, (row - begin) * heads + head, over positions from `first` on.
    void add(int query, int64_t first, int64_t count, float* scores) const {
      segment.bias.add(kv_head * heads + query % heads, first - segment.position(begin + query / heads), count, scores);
    }
  };

  void attend_rows(const Kernels& kernels, const SegmentRows& segment, int kv_head, int64_t begin, int64_t end,
                   const float* prepared, float* scratch) const {
    const int heads = shape_.heads_per_kv(), queries = static_cast<int>(end - begin) * heads;
    const int64_t dim_v = shape_.dim_v;
    int32_t* path = reinterpret_cast<int32_t*>(scratch);
    Running all{};
    all.scores = scratch + segment.rows;
    all.out = all.scores + queries * (kTile + kPanel);
    all.tile.out = all.out + queries * dim_v;
    all.maximum = all.tile.out + queries * dim_v;
    all.sum = all.maximum + queries;
    all.tile.maximum = all.sum + queries;
    all.tile.sum = all.tile.maximum + queries;

    const float* q[kMostQueries];
    const Bias bias{segment, kv_head, heads, begin};
    for (int64_t row = begin; row < end; ++row) {
      const QueryHeads own(segment, heads, kv_head, row, shape_.dim_k);
      std::copy(own.q, own.q + heads, q + (row - begin) * heads);
    }
    // Tiles that all these rows see whole, a span's last one too; then each row's others.
    const int64_t shared = shared_end(segment, begin);
    int64_t tile = 0;
    {
      const VisibleRows first = visible_rows(segment, kv_head, begin, prepared, path);
      for (; tile + kTile <= shared || (segment.span && tile < shared); tile += kTile) {
        add_tile(kernels, first.range(tile, tile + kTile), {q, queries}, bias, prepared, all);
      }
    }
    // The last tile of a chain's rows, each with one position more than the row before it.
    if (segment.chain && tile < shared && segment.seen_end(end - 1) <= tile + kTile) {
      const VisibleRows last = visible_rows(segment, kv_head, end - 1, prepared, path);
      add_tile(kernels, last.range(tile, tile + kTile), {q, queries, 0, heads}, bias, prepared, all);
      tile += kTile;
    }
    // The last tile of a tree's rows.
    if (!segment.chain && tile < shared && last_end(segment, begin, end) <= tile + kTile) {
      add_tree_tile(kernels, tile, RowRun(segment, kv_head, heads, begin, end, tile, path), bias, prepared, all);
      tile += kTile;
    }
    const int64_t own_tiles = tile;
    for (int64_t row = begin; row < end; ++row) {
      const int first_query = static_cast<int>(row - begin) * heads;
      const Running own = all.from(first_query, dim_v);
      const VisibleRows visible = visible_rows(segment, kv_head, row, prepared, path);
      for (tile = own_tiles; tile < visible.end(); tile += kTile) {
        add_tile(kernels, visible.range(tile, tile + kTile), {q + first_query, heads, first_query}, bias, prepared,
                 own);
      }
      float* out = output_of(segment, shape_, kv_head, 0, row);  // [heads][Dv]
      divide_rows(kernels, own.out, own.sum, heads, dim_v, out);
    }
  }

  // Positions before this one are seen by all rows from `begin` on.
  static int64_t shared_end(const SegmentRows& segment, int64_t begin) {
    return segment.chain ? segment.seen_end(begin) : segment.state->length();
  }

  // The first position that none of the rows [begin, end) sees.
  static int64_t last_end(const SegmentRows& segment, int64_t begin, int64_t end) {
    int64_t last = 0;
    for (int64_t row = begin; row < end; ++row) last = std::max(last, segment.seen_end(row));
    return last;
  }

  // The rest of what a tree's rows see, which ends in this tile: they go over its committed rows together.
  void add_tree_tile(const Kernels& kernels, int64_t tile, const RowRun& run, const Bias& bias, const float* prepared,
                     const Running& running) const {
    tree_tile_sums(kernels, tile, run, bias, prepared, running.scores, tile == 0 ? running : running.tile);
    if (tile > 0) merge(kernels, running.tile, run.queries(), running);
  }

  // scores [queries][kTile], then [queries][16] of memory.
  void tree_tile_sums(const Kernels& kernels, int64_t tile, const RowRun& run, const Bias& bias, const float* prepared,
                      float* scores, const TileSums& sums) const {
    run.scores(kernels, {.fresh = prepared, .dim = shape_.dim_k}, scores + run.queries() * kTile, scores, kTile);
    run.each_length([&](int first, int count, int64_t length, int) {
      weigh(kernels, tile, length, {run.q() + first, count, first}, bias, scores + first * kTile,
            {sums.out, sums.maximum + first, sums.sum + first});
    });
    std::fill_n(sums.out, run.queries() * shape_.dim_v, 0.0f);
    run.weighted_sum(kernels, scores, kTile, sums.out);
  }

  void add_tile(const Kernels& kernels, const VisibleRows& rows, const Queries& queries, const Bias& bias,
                const float* prepared, const Running& running) const {
    const bool first = rows.begin() == 0;
    tile_sums(kernels, rows, queries, bias, prepared, running.scores, first ? running : running.tile);
    if (!first) merge(kernels, running.tile, queries.count, running);
  }

  // scores [queries][kTile], then [queries][16] of memory.
  void tile_sums(const Kernels& kernels, const VisibleRows& rows, const Queries& queries, const Bias& bias,
                 const float* prepared, float* scores, const TileSums& sums) const {
    rows.scores(kernels, queries.q, queries.count, prepared, scores + queries.count * kTile, scores, kTile);
    const int stagger = queries.stagger;
    const int64_t fewest = stagger > 0 ? rows.count() - (queries.count - 1) / stagger : rows.count();
    weigh(kernels, rows.begin(), fewest, queries, bias, scores, sums);
    std::fill_n(sums.out, queries.count * shape_.dim_v, 0.0f);
    if (stagger > 0) {
      const int64_t newest = rows.begin() + fewest - 1;  // that the first query sees
      rows.range(rows.begin(), newest).weighted_sum(kernels, scores, kTile, queries.count, sums.out);
      rows.range(newest, newest + 1)
          .weighted_sum(kernels, scores + fewest - 1, kTile, queries.count, sums.out, stagger);
    } else {
      rows.weighted_sum(kernels, scores, kTile, queries.count, sums.out);
    }
  }

  // scores [queries][kTile] of positions from `begin` on -> weights; their maxima and sums. The first query has
  // `fewest`.
  void weigh(const Kernels& kernels, int64_t begin, int64_t fewest, const Queries& queries, const Bias& bias,
             float* scores, const TileSums& sums) const {
    const float factor = softmax_scale(shape_);
    ExpRows weights{.x = scores,
                    .stride = kTile,
                    .rows = queries.count,
                    .count = fewest,
                    .stagger = queries.stagger,
                    .factor = factor,
                    .maxima = sums.maximum,
                    .sums = sums.sum};
    if (bias.segment.bias.values) {
      for (int i = 0; i < queries.count; ++i) {
        float* own = scores + i * kTile;
        kernels.scale(own, factor, weights.count_of(i), own);
        bias.add(queries.first + i, begin, weights.count_of(i), own);
      }
      weights.factor = 1.0f;
    }
    kernels.exp_rows(weights);
  }

  // Takes one tile's sums into the running ones.
  void merge(const Kernels& kernels, const TileSums& tile, int queries, const TileSums& running) const {
    float factors[2][kMostQueries];  // of the running sums, of the tile's
    for (int i = 0; i < queries; ++i) {
      const float merged = std::max(running.maximum[i], tile.maximum[i]);
      factors[0][i] = running.maximum[i] - merged;
      factors[1][i] = tile.maximum[i] - merged;
      running.maximum[i] = merged;
    }
    for (float* all : factors) kernels.exp_sum(all, 0.0f, queries, all);
    for (int i = 0; i < queries; ++i) {
      float* out = running.out + i * shape_.dim_v;
      kernels.scale(out, factors[0][i], shape_.dim_v, out);
      kernels.add_scaled(tile.out + i * shape_.dim_v, factors[1][i], shape_.dim_v, out);
      running.sum[i] = std::fma(tile.sum[i], factors[1][i], running.sum[i] * factors[0][i]);
    }
  }

  AttentionShape shape_;
};

}  // namespace

const AttentionCard& softmax_card() {
  static const AttentionCard card{
      .name = "softmax",
      .summary = "scaled dot-product attention over a KV cache, the baseline",
      .paper = "Vaswani et al. 2017, arXiv 1706.03762",
      .samples = {"softmax"},
      .in_models = {"softmax"},
      .make = [](const AttentionOptions&, const AttentionShape& shape) { return std::make_unique<Softmax>(shape); }};
  return card;
}

}  // namespace espalier
