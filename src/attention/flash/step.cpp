#include "attention/flash/flash.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "attention/augmented/augmented.h"
#include "attention/shared/fold_steps.h"
#include "attention/shared/min_norm.h"
#include "attention/shared/visible_rows.h"

namespace espalier {
namespace {

float inverse_norm(float squares) {
  return 1.0f / std::max(std::sqrt(squares), kMinNorm);
}

// Sum of squares with one accumulator in ascending order, as panel_squares adds them for a key.
float squares_of(const float* x, int64_t n) {
  float sum = 0.0f;
  for (int64_t i = 0; i < n; ++i) sum = std::fma(x[i], x[i], sum);
  return sum;
}

// What both parts share: normalised scores of the rows in a range.
class FlashPart : public Mechanism {
 public:
  FlashPart(const AttentionShape& shape, int64_t group) : shape_(shape), group_(group) {}

  Capabilities capabilities() const override { return {.span = true}; }

 protected:
  // Memory of one attend() call.
  struct Scratch {
    Scratch(const SegmentRows& segment, const AttentionShape& shape, int64_t window, float* memory)
        : path(reinterpret_cast<int32_t*>(memory)),
          scores(memory + segment.rows),
          temporary(scores + most_queries(shape) * window),
          sums(temporary + most_queries(shape) * kPanel),
          inverses(sums + most_queries(shape) * shape.dim_v),
          squares(inverses + most_queries(shape)),
          window(window) {}
    static int64_t floats(const SegmentRows& segment, const AttentionShape& shape, int64_t window) {
      return segment.rows + most_queries(shape) * (window + kPanel + shape.dim_v + 1) + window;
    }
    int32_t* path;     // [R]
    float* scores;     // [queries][window]
    float* temporary;  // [queries][16]
    float* sums;       // [queries][Dv]
    float* inverses;   // [queries] 1 / |q|
    float* squares;    // [window]
    int64_t window;
  };

  // Calls body(first, last, group) for rows [begin, end) of one group that follow each other in a chain, as many as go
  // over the group together; row by row in a tree and of a span.
  template <class Body>
  void each_run(const SegmentRows& segment, int64_t begin, int64_t end, Body&& body) const {
    const int64_t together = segment.chain && !segment.span ? std::max(1, kQueriesTogether / shape_.heads_per_kv()) : 1;
    for (int64_t first = begin, last; first < end; first = last) {
      const int64_t position = segment.position(first), group = position / group_;
      last = std::min({end, first + together, first + (group + 1) * group_ - position});
      body(first, last, group);
    }
  }

  // scores[i][j] = q^_i . k^_j for the rows of `visible`.
  void normalised_scores(const Kernels& kernels, const VisibleRows& visible, const RowRun& run,
                         const float* fresh_panels, const Scratch& scratch) const {
    visible.scores(kernels, run.q(), run.queries(), fresh_panels, scratch.temporary, scratch.scores, scratch.window);
    visible.key_squares(kernels, fresh_panels, scratch.squares);
    for (int64_t j = 0; j < visible.count(); ++j) scratch.squares[j] = inverse_norm(scratch.squares[j]);
    for (int i = 0; i < run.queries(); ++i) {
      scratch.inverses[i] = inverse_norm(squares_of(run.q()[i], shape_.dim_k));
      kernels.multiply_scaled(scratch.squares, scratch.inverses[i], visible.count(),
                              scratch.scores + i * scratch.window);
    }
  }

  AttentionShape shape_;
  int64_t group_;
};

class FlashLocal : public FlashPart {
 public:
  FlashLocal(const FlashLocalOptions& options, const AttentionShape& shape)
      : FlashPart(shape, options.group), back_(options.terraced) {}

  Capabilities capabilities() const override { return {.span = true, .bias = true}; }

  StateLayout layout() const override {
    return {.heads_kv = shape_.heads_kv, .dim_k = shape_.dim_k, .dim_v = shape_.dim_v, .block = group_, .lag = back_};
  }
  int64_t prepared_floats(const SegmentRows& segment) const override { return fresh_panels_floats(segment); }
  void prepare(const Kernels&, const SegmentRows& segment, int kv_head, int64_t begin, int64_t end,
               float* prepared) const override {
    make_fresh_panels(segment, kv_head, begin, end, prepared);
  }
  int64_t scratch_floats(const SegmentRows& segment) const override {
    return Scratch::floats(segment, shape_, window());
  }
  void attend(const Kernels& kernels, const SegmentRows& segment, int kv_head, int64_t begin, int64_t end,
              const float* prepared, float* memory) const override {
    const Scratch scratch(segment, shape_, window(), memory);
    const int heads = shape_.heads_per_kv();
    const int64_t width = heads * int64_t{shape_.dim_v};
    each_run(segment, begin, end, [&](int64_t first, int64_t last, int64_t group) {
      // What the last of these rows sees; of a chain the others see as many fewer as they stand before it.
      const VisibleRows visible = VisibleRows(segment, kv_head, last - 1, scratch.path)
                                      .range((group - back_) * group_, (group + 1 + back_) * group_);
      const RowRun run(segment, kv_head, heads, first, last, visible.begin(), scratch.path);
      normalised_scores(kernels, visible, run, prepared, scratch);
      for (int i = 0; i < run.queries(); ++i) {
        float* own = scratch.scores + i * scratch.window;
        for (int64_t j = 0; j < visible.count(); ++j) {
          const float positive = std::max(own[j], 0.0f);
          own[j] = positive * positive;
        }
        const int64_t position = segment.position(first + i / heads);
        segment.bias.add(kv_head * heads + i % heads, visible.begin() - position, visible.count(), own);
      }
      std::fill_n(scratch.sums, run.queries() * shape_.dim_v, 0.0f);
      if (last - first > 1) {
        run.weighted_sum(kernels, scratch.scores, scratch.window, scratch.sums);
      } else {
        visible.weighted_sum(kernels, scratch.scores, scratch.window, heads, scratch.sums);
      }
      for (int64_t row = first; row < last; ++row) {
        std::copy_n(scratch.sums + (row - first) * width, width, output_of(segment, shape_, kv_head, 0, row));
      }
    });
  }

 private:
  int64_t window() const { return ((shape_.span ? 2 : 1) * back_ + 1) * group_; }

  int64_t back_;  // whole groups before the open one that are seen; of a span as many after it
};

class FlashGlobal : public FlashPart {
 public:
  FlashGlobal(const FlashGlobalOptions& options, const AttentionShape& shape)
      : FlashPart(shape, options.group), scale_(options.scale) {}

  StateLayout layout() const override {
    return {.heads_kv = shape_.heads_kv,
            .dim_k = shape_.dim_k,
            .dim_v = shape_.dim_v,
            .block = group_,
            .lag = 1,
            .fold_floats = int64_t{shape_.dim_k} * shape_.dim_v};
  }

  void fold_rows(const Kernels& kernels, int, const FoldRows& rows, const float* before, float* fold) const override {
    std::vector<float> units(static_cast<size_t>(rows.count * shape_.dim_k));  // k^ [count][Dk]
    for (int64_t row = 0; row < rows.count; ++row) {
      const float* key = rows.k_row(row);
      const float inverse = inverse_norm(squares_of(key, shape_.dim_k));
      kernels.scale(key, inverse, shape_.dim_k, units.data() + row * shape_.dim_k);
    }
    add_outer_products(kernels, units.data(), shape_.dim_k, rows, shape_.dim_v, before, 1.0f, fold);
  }

  // Of a span: the fold of all its rows.
  int64_t prepared_floats(const SegmentRows& segment) const override {
    if (segment.span) return layout().fold_floats;
    return fresh_panels_floats(segment) + fold_steps_floats(segment);
  }
  void prepare(const Kernels& kernels, const SegmentRows& segment, int kv_head, int64_t begin, int64_t end,
               float* prepared) const override {
    if (segment.span) {
      const RowCopies all(segment, kv_head, 0, segment.seen_end(0));
      return fold_rows(kernels, kv_head, all.rows, segment.state->fold(kv_head), prepared);
    }
    make_fresh_panels(segment, kv_head, begin, end, prepared);
    make_fold_steps(kernels, *this, segment, kv_head, begin, end, prepared + fresh_panels_floats(segment));
  }
  int64_t scratch_floats(const SegmentRows& segment) const override {
    return Scratch::floats(segment, shape_, group_) + most_queries(shape_) * shape_.dim_k;
  }
  void attend(const Kernels& kernels, const SegmentRows& segment, int kv_head, int64_t begin, int64_t end,
              const float* prepared, float* memory) const override {
    const Scratch scratch(segment, shape_, group_, memory);
    float* units = memory + Scratch::floats(segment, shape_, group_);  // [queries][Dk] q^
    if (segment.span) return attend_span(kernels, segment, kv_head, begin, end, prepared, units);
    const float* steps = prepared + fresh_panels_floats(segment);
    const int heads = shape_.heads_per_kv();
    const int64_t width = heads * int64_t{shape_.dim_v};
    each_run(segment, begin, end, [&](int64_t first, int64_t last, int64_t group) {
      const VisibleRows visible =
          VisibleRows(segment, kv_head, first, scratch.path).range((group - 1) * group_, group * group_);
      const RowRun run(segment, kv_head, heads, first, last, visible.begin(), scratch.path);
      normalised_scores(kernels, visible, run, prepared, scratch);
      std::fill_n(scratch.sums, run.queries() * shape_.dim_v, 0.0f);
      if (group > 1) {
        for (int i = 0; i < run.queries(); ++i) {
          kernels.scale(run.q()[i], scratch.inverses[i], shape_.dim_k, units + i * shape_.dim_k);
        }
        add_units(kernels, run.queries(), fold_for(segment, kv_head, segment.position(first), steps), units,
                  scratch.sums);
      }
      visible.weighted_sum(kernels, scratch.scores, scratch.window, run.queries(), scratch.sums);
      const float inverse = 1.0f / static_cast<float>(flash_divisor(scale_, group, group_));
      for (int64_t row = first; row < last; ++row) {
        kernels.scale(scratch.sums + (row - first) * width, inverse, width,
                      output_of(segment, shape_, kv_head, 0, row));
      }
    });
  }

 private:
  // out [queries, Dv] += q^ . fold
  void add_units(const Kernels& kernels, int64_t queries, const float* fold, const float* units, float* out) const {
    add_fold(kernels, {.weights = units,
                       .features = shape_.dim_k,
                       .queries = queries,
                       .fold = fold,
                       .dim_v = shape_.dim_v,
                       .out = out});
  }

  void attend_span(const Kernels& kernels, const SegmentRows& segment, int kv_head, int64_t begin, int64_t end,
                   const float* fold, float* units) const {
    const int heads = shape_.heads_per_kv();
    const auto divisor = static_cast<float>(flash_span_divisor(scale_, segment.seen_end(0), group_));
    for (int64_t row = begin; row < end; ++row) {
      float* out = output_of(segment, shape_, kv_head, 0, row);  // [heads][Dv]
      std::fill(out, out + heads * shape_.dim_v, 0.0f);
      const QueryHeads queries(segment, heads, kv_head, row, shape_.dim_k);
      for (int h = 0; h < heads; ++h) {
        const float inverse = inverse_norm(squares_of(queries.q[h], shape_.dim_k));
        kernels.scale(queries.q[h], inverse, shape_.dim_k, units + h * shape_.dim_k);
      }
      add_units(kernels, heads, fold, units, out);
      kernels.scale(out, 1.0f / divisor, heads * int64_t{shape_.dim_v}, out);
    }
  }

  FlashScale scale_;
};

}  // namespace

std::unique_ptr<Mechanism> make_flash_local(const FlashLocalOptions& options, const AttentionShape& shape) {
  return std::make_unique<FlashLocal>(options, shape);
}

std::unique_ptr<Mechanism> make_flash_global(const FlashGlobalOptions& options, const AttentionShape& shape) {
  return std::make_unique<FlashGlobal>(options, shape);
}

OptionInfo local_option(const std::string& more_choices) {
  return choice_option("local", "blocked|terraced" + more_choices, "sees the group; terraced: and the one before it");
}

OptionInfo scale_option() {
  return choice_option("scale", "count|groups|none", "the sum over closed groups is divided by their rows or number");
}

FlashScale flash_scale(const AttentionOptions& options) {
  const std::string scale = options.text("scale");
  return scale == "none" ? FlashScale::kNone : scale == "groups" ? FlashScale::kGroups : FlashScale::kCount;
}

FlashLocalOptions FlashLocalOptions::of(const AttentionOptions& options) {
  return {.group = options.integer("group"), .terraced = options.is("local", "terraced")};
}

FlashGlobalOptions FlashGlobalOptions::of(const AttentionOptions& options) {
  return {.group = options.integer("group"), .scale = flash_scale(options)};
}

const AttentionCard& flash_local_card() {
  static const AttentionCard card{
      .name = "flash_local",
      .summary = "relu(cos(q, k))^2 inside a group, without a denominator",
      .paper = "Hua et al. 2022, arXiv 2202.10447",
      .options = {group_option(), local_option()},
      .samples = {"flash_local(group=8)", "flash_local(group=1)", "flash_local(group=12,local=terraced)"},
      .in_models = {"flash_local(group=8)", "flash_local(group=12,local=terraced)"},
      .make = [](const AttentionOptions& options, const AttentionShape& shape) {
        return make_flash_local(FlashLocalOptions::of(options), shape);
      }};
  return card;
}

const AttentionCard& flash_global_card() {
  static const AttentionCard card{.name = "flash_global",
                                  .summary = "cos(q, k) summed over all closed groups",
                                  .paper = "Hua et al. 2022, arXiv 2202.10447",
                                  .options = {group_option(), scale_option()},
                                  .samples = {"flash_global(group=8)", "flash_global(group=5,scale=none)",
                                              "flash_global(group=8,scale=groups)", "flash_global(group=40)"},
                                  .in_models = {"flash_global(group=8)", "flash_global(group=16,scale=none)"},
                                  .make = [](const AttentionOptions& options, const AttentionShape& shape) {
                                    return make_flash_global(FlashGlobalOptions::of(options), shape);
                                  }};
  return card;
}

const AttentionCard& flash_card() {
  static const AttentionCard card{.name = "flash",
                                  .summary = "flash_local + flash_global",
                                  .paper = "Hua et al. 2022, arXiv 2202.10447",
                                  .options = {group_option(), local_option(), scale_option()},
                                  .samples = {"flash(group=8)", "flash(group=8,local=terraced,scale=none)"},
                                  .in_models = {"flash(group=8)"},
                                  .make = [](const AttentionOptions& options, const AttentionShape& shape) {
                                    return make_augmented(flash_options(options), shape);
                                  }};
  return card;
}

}  // namespace espalier
