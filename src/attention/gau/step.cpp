#include "attention/gau/gau.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "attention/conv/conv.h"
#include "attention/shared/fold_steps.h"
#include "attention/shared/min_norm.h"
#include "attention/shared/visible_rows.h"

namespace espalier {
namespace {

class Gau : public Mechanism {
 public:
  Gau(const GauOptions& options, const AttentionShape& shape)
      : options_(options), shape_(shape), near_(shape.dim_k / 2), far_(shape.dim_k - near_), filter_(options.taps) {}

  // In a span the convolution still looks back, as the original's does.
  Capabilities capabilities() const override { return {.span = true, .bias = true}; }
  StateLayout layout() const override {
    return {.heads_kv = shape_.heads_kv,
            .dim_k = shape_.dim_k,
            .dim_v = shape_.dim_v,
            .block = options_.group,
            .lag = options_.global ? 1 : 0,
            .tail = std::max<int64_t>(0, filter_.taps() - 1),
            .fold_floats = options_.global ? far_ * shape_.dim_v : 0};
  }
  std::vector<ParameterInfo> parameters() const override {
    if (filter_.taps() == 0) return {};
    return {filter_.parameter(shape_)};
  }
  void load(const std::vector<std::vector<float>>& values) override {
    if (filter_.taps() > 0) filter_.load(values[0]);
  }

  void fold_rows(const Kernels& kernels, int, const FoldRows& rows, const float* before, float* fold) const override {
    std::vector<float> keys(static_cast<size_t>(rows.count * far_));  // e [count][far]
    for (int64_t row = 0; row < rows.count; ++row) {
      std::copy_n(rows.k_row(row) + near_, far_, keys.data() + row * far_);
    }
    add_outer_products(kernels, keys.data(), far_, rows, shape_.dim_v, before, 1.0f, fold);
  }

  // Panels of the new keys, then the folds at borders, or of a span the fold of all its rows.
  int64_t prepared_floats(const SegmentRows& segment) const override {
    return fresh_panels_floats(segment) + (segment.span ? far_ * shape_.dim_v : fold_steps_floats(segment));
  }
  void prepare(const Kernels& kernels, const SegmentRows& segment, int kv_head, int64_t begin, int64_t end,
               float* prepared) const override {
    make_fresh_panels(segment, kv_head, begin, end, prepared);
    float* folds = prepared + fresh_panels_floats(segment);
    if (!segment.span) return make_fold_steps(kernels, *this, segment, kv_head, begin, end, folds);
    if (!options_.global) return;
    const LayerState& state = *segment.state;
    const RowCopies all(segment, kv_head, state.fold_end(), segment.seen_end(0));
    fold_rows(kernels, kv_head, all.rows, state.fold(kv_head), folds);
  }

  int64_t scratch_floats(const SegmentRows& segment) const override {
    const int64_t heads = shape_.heads_per_kv();
    return segment.rows + most_queries(shape_) * (far_ + int64_t{shape_.dim_v}) +
           most_queries(shape_) * (options_.group + kPanel) + heads * shape_.dim_v;
  }
  void attend(const Kernels& kernels, const SegmentRows& segment, int kv_head, int64_t begin, int64_t end,
              const float* prepared, float* memory) const override {
    const int heads = shape_.heads_per_kv();
    const int64_t together = std::max(1, kQueriesTogether / heads);
    const float* folds = prepared + fresh_panels_floats(segment);
    Scratch scratch{};
    scratch.path = reinterpret_cast<int32_t*>(memory);
    scratch.queries = memory + segment.rows;
    scratch.sums = scratch.queries + most_queries(shape_) * far_;
    scratch.scores = scratch.sums + most_queries(shape_) * shape_.dim_v;
    scratch.temporary = scratch.scores + most_queries(shape_) * options_.group;
    scratch.filtered = scratch.temporary + most_queries(shape_) * kPanel;
    const auto rows = [&](int64_t first, int64_t last, const float* fold) {
      std::fill(scratch.sums, scratch.sums + (last - first) * heads * shape_.dim_v, 0.0f);
      if (options_.global) {
        for (int64_t row = first; row < last; ++row) {
          const QueryHeads own(segment, heads, kv_head, row, shape_.dim_k);
          for (int h = 0; h < heads; ++h) {
            std::copy_n(own.q[h] + near_, far_, scratch.queries + ((row - first) * heads + h) * far_);
          }
        }
        add_fold(kernels, {.weights = scratch.queries,
                           .features = far_,
                           .queries = (last - first) * heads,
                           .fold = fold,
                           .dim_v = shape_.dim_v,
                           .out = scratch.sums});
        // A chain's rows see the same group before theirs; a tree's go each along its path.
        const int64_t step = segment.span ? 0 : segment.chain ? last - first : 1;
        for (int64_t row = first; step > 0 && row < last; row += step) {
          add_group_before(kernels, segment, kv_head, row, row + step, prepared,
                           scratch.sums + (row - first) * heads * shape_.dim_v, scratch);
        }
      }
      for (int64_t row = first; row < last; ++row) {
        finish_row(kernels, segment, kv_head, row, prepared, scratch.sums + (row - first) * heads * shape_.dim_v,
                   scratch);
      }
    };
    if (segment.span) {
      for (int64_t first = begin; first < end; first += together) rows(first, std::min(end, first + together), folds);
    } else if (options_.global) {
      each_run_of_fold(segment, kv_head, begin, end, together, folds, rows);
    } else {
      for (int64_t row = begin; row < end; ++row) rows(row, row + 1, nullptr);
    }
  }

 private:
  // Memory of one attend() call.
  struct Scratch {
    int32_t* path;     // [R]
    float* queries;    // [queries][far] b
    float* sums;       // [queries][Dv]
    float* scores;     // [queries][G]
    float* temporary;  // [queries][16]
    float* filtered;   // [heads][Dv]
  };

  // sums [queries, Dv] += the rows of the group before that of rows [begin, end), by the global part's products.
  void add_group_before(const Kernels& kernels, const SegmentRows& segment, int kv_head, int64_t begin, int64_t end,
                        const float* panels, float* sums, const Scratch& scratch) const {
    const int heads = shape_.heads_per_kv();
    const VisibleRows all(segment, kv_head, begin, scratch.path);
    const int64_t closed = all.position() / options_.group * options_.group;
    const VisibleRows before = all.range(closed - options_.group, closed);
    const RowRun run(segment, kv_head, heads, begin, end, before.begin(), scratch.path);
    scores(kernels, before, run.q(), run.queries(), {near_, far_}, panels, scratch);
    before.weighted_sum(kernels, scratch.scores, options_.group, run.queries(), sums);
  }

  // The rest: `sums` [heads, Dv] holds b . fold and the group before.
  void finish_row(const Kernels& kernels, const SegmentRows& segment, int kv_head, int64_t row, const float* panels,
                  float* sums, const Scratch& scratch) const {
    const int heads = shape_.heads_per_kv();
    const int64_t dim_v = shape_.dim_v, group = options_.group;
    const VisibleRows all(segment, kv_head, row, scratch.path);
    const int64_t closed = all.position() / group * group;  // rows of groups before this one's
    const QueryHeads queries(segment, heads, kv_head, row, shape_.dim_k);
    const auto add = [&](const VisibleRows& rows) { rows.weighted_sum(kernels, scratch.scores, group, heads, sums); };
    if (options_.global) {
      const int64_t divisor = segment.span ? segment.seen_end(row) : group;
      kernels.scale(sums, 1.0f / static_cast<float>(divisor), heads * dim_v, sums);
    }
    if (options_.local) {
      const VisibleRows own = all.range(closed, closed + group);
      scores(kernels, own, queries.q, heads, {0, near_}, panels, scratch);
      for (int h = 0; h < heads; ++h) {
        float* weights = scratch.scores + h * group;
        kernels.scale(weights, 1.0f / static_cast<float>(group), own.count(), weights);
        segment.bias.add(kv_head * heads + h, own.begin() - all.position(), own.count(), weights);
        kernels.activate(options_.activation, weights, own.count(), weights);
      }
      add(own);
    }
    if (options_.castling) {
      const VisibleRows self = all.range(all.position(), all.position() + 1);
      kernels.scale(sums, static_cast<float>(1.0 / M_PI), heads * dim_v, sums);
      for (int h = 0; h < heads; ++h) scratch.scores[h * group] = 0.5f;
      add(self);
      for (int h = 0; h < heads; ++h) {
        float* own = sums + h * dim_v;
        kernels.scale(own, 1.0f / std::max(std::sqrt(kernels.dot(own, own, dim_v)), kMinNorm), dim_v, own);
      }
    }
    if (filter_.taps() > 0) filter_.add(kernels, all, kv_head * heads, heads, dim_v, scratch.filtered, sums);
    std::copy_n(sums, heads * dim_v, output_of(segment, shape_, kv_head, 0, row));
  }

  struct Dimensions {
    int64_t first, count;
  };

  // Products of queries and keys over some dimensions, [queries][G].
  void scores(const Kernels& kernels, const VisibleRows& rows, const float* const* queries, int count,
              Dimensions dimensions, const float* fresh_panels, const Scratch& scratch) const {
    const float* q[kMaxHeadsPerKv];
    for (int i = 0; i < count; ++i) q[i] = queries[i] + dimensions.first;
    rows.scores(kernels, q, count,
                {.fresh = fresh_panels, .dim = dimensions.count, .first = dimensions.first, .panel_dim = shape_.dim_k},
                scratch.temporary, scratch.scores, options_.group);
  }

  GauOptions options_;
  AttentionShape shape_;
  int64_t near_, far_;  // dimensions that look inside the group, and before it
  ConvFilter filter_;
};

}  // namespace

GauOptions GauOptions::of(const AttentionOptions& options) {
  const bool laplace = options.is("activation", "laplace");
  return {.group = options.integer("group"),
          .taps = options.integer("taps"),
          .activation = laplace ? Activation::kLaplace : Activation::kReluSquared,
          .local = !options.is("parts", "global"),
          .global = !options.is("parts", "local"),
          .castling = options.is("castling", "yes")};
}

const AttentionCard& gau_card() {
  static const AttentionCard card{
      .name = "gau",
      .summary = "a gated attention unit's: half of q and k inside the group, half at the groups before",
      .paper = "Hua et al. 2022, arXiv 2202.10447; You et al. 2024 (ICML), arXiv 2406.07368",
      .options = {group_option(256), choice_option("activation", "laplace|relu2", "of the weights inside a group"),
                  choice_option("parts", "both|local|global", "which parts are summed"), taps_option(32, 0),
                  choice_option("castling", "no|yes", "half of v is added, and rows are brought to length 1")},
      .samples = {"gau(group=8,taps=5)", "gau(group=12,activation=relu2,taps=3,castling=yes)",
                  "gau(group=8,parts=local,taps=0)", "gau(group=16,parts=global,taps=0)", "gau(group=100,taps=3)"},
      .in_models = {"gau(group=8,taps=3)"},
      .make = [](const AttentionOptions& options, const AttentionShape& shape) {
        return std::make_unique<Gau>(GauOptions::of(options), shape);
      }};
  return card;
}

}  // namespace espalier
