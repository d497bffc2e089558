#include <algorithm>
#include <cmath>
#include <vector>

#include "attention/flash.h"
#include "attention/fold_steps.h"
#include "attention/visible_rows.h"

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
          temporary(scores + shape.heads_per_kv() * window),
          squares(temporary + shape.heads_per_kv() * kPanel),
          window(window) {}
    static int64_t floats(const SegmentRows& segment, const AttentionShape& shape, int64_t window) {
      return segment.rows + shape.heads_per_kv() * (window + kPanel) + window;
    }
    int32_t* path;     // [R]
    float* scores;     // [heads][window]
    float* temporary;  // [heads][16]
    float* squares;    // [window]
    int64_t window;
  };

  // scores[h][j] = q^_h . k^_j for the rows of `visible`.
  void normalised_scores(const Kernels& kernels, const VisibleRows& visible, const QueryHeads& queries,
                         const float* fresh_panels, const Scratch& scratch) const {
    visible.scores(kernels, queries.q, shape_.heads_per_kv(), fresh_panels, scratch.temporary, scratch.scores,
                   scratch.window);
    visible.key_squares(kernels, fresh_panels, scratch.squares);
    for (int64_t j = 0; j < visible.count(); ++j) scratch.squares[j] = inverse_norm(scratch.squares[j]);
    for (int h = 0; h < shape_.heads_per_kv(); ++h) {
      const float inverse = inverse_norm(squares_of(queries.q[h], shape_.dim_k));
      float* own = scratch.scores + h * scratch.window;
      for (int64_t j = 0; j < visible.count(); ++j) own[j] = own[j] * inverse * scratch.squares[j];
    }
  }

  AttentionShape shape_;
  int64_t group_;
};

class FlashLocal : public FlashPart {
 public:
  FlashLocal(const AttentionShape& shape, int64_t group, bool terraced) : FlashPart(shape, group), back_(terraced) {}

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
    for (int64_t row = begin; row < end; ++row) {
      const VisibleRows all(segment, kv_head, row, scratch.path);
      const int64_t group = all.position() / group_;
      const VisibleRows visible = all.range((group - back_) * group_, (group + 1 + back_) * group_);
      const QueryHeads queries(segment, shape_.heads_per_kv(), kv_head, row, shape_.dim_k);
      normalised_scores(kernels, visible, queries, prepared, scratch);
      for (int h = 0; h < shape_.heads_per_kv(); ++h) {
        float* own = scratch.scores + h * scratch.window;
        for (int64_t j = 0; j < visible.count(); ++j) {
          const float positive = std::max(own[j], 0.0f);
          own[j] = positive * positive;
        }
        segment.bias.add(kv_head * shape_.heads_per_kv() + h, visible.begin() - all.position(), visible.count(), own);
      }
      float* out = output_of(segment, shape_, kv_head, 0, row);
      std::fill(out, out + shape_.heads_per_kv() * shape_.dim_v, 0.0f);
      visible.weighted_sum(kernels, scratch.scores, scratch.window, shape_.heads_per_kv(), out);
    }
  }

 private:
  int64_t window() const { return ((shape_.span ? 2 : 1) * back_ + 1) * group_; }

  int64_t back_;  // whole groups before the open one that are seen; of a span as many after it
};

class FlashGlobal : public FlashPart {
 public:
  FlashGlobal(const AttentionShape& shape, int64_t group, FlashScale scale) : FlashPart(shape, group), scale_(scale) {}

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
    return Scratch::floats(segment, shape_, group_) + shape_.heads_per_kv() * int64_t{shape_.dim_k};
  }
  void attend(const Kernels& kernels, const SegmentRows& segment, int kv_head, int64_t begin, int64_t end,
              const float* prepared, float* memory) const override {
    const Scratch scratch(segment, shape_, group_, memory);
    float* unit = memory + Scratch::floats(segment, shape_, group_);  // [heads][Dk] q^
    if (segment.span) return attend_span(kernels, segment, kv_head, begin, end, prepared, unit);
    const float* steps = prepared + fresh_panels_floats(segment);
    for (int64_t row = begin; row < end; ++row) {
      const VisibleRows all(segment, kv_head, row, scratch.path);
      const int64_t closed = all.position() / group_ * group_;
      const VisibleRows visible = all.range(closed - group_, closed);
      const QueryHeads queries(segment, shape_.heads_per_kv(), kv_head, row, shape_.dim_k);
      normalised_scores(kernels, visible, queries, prepared, scratch);
      const float* fold = fold_for(segment, kv_head, all.position(), steps);
      const int heads = shape_.heads_per_kv();
      float* out = output_of(segment, shape_, kv_head, 0, row);  // [heads][Dv]
      std::fill(out, out + heads * shape_.dim_v, 0.0f);
      if (closed > group_) add_units(kernels, queries, fold, unit, out);
      visible.weighted_sum(kernels, scratch.scores, scratch.window, heads, out);
      const float divisor = static_cast<float>(flash_divisor(scale_, closed / group_, group_));
      for (int64_t c = 0; c < heads * int64_t{shape_.dim_v}; ++c) out[c] /= divisor;
    }
  }

 private:
  // out [heads, Dv] += q^ . fold
  void add_units(const Kernels& kernels, const QueryHeads& queries, const float* fold, float* unit, float* out) const {
    for (int h = 0; h < shape_.heads_per_kv(); ++h) {
      const float inverse = inverse_norm(squares_of(queries.q[h], shape_.dim_k));
      kernels.scale(queries.q[h], inverse, shape_.dim_k, unit + h * shape_.dim_k);
    }
    add_fold(kernels, {.weights = unit,
                       .features = shape_.dim_k,
                       .queries = shape_.heads_per_kv(),
                       .fold = fold,
                       .dim_v = shape_.dim_v,
                       .out = out});
  }

  void attend_span(const Kernels& kernels, const SegmentRows& segment, int kv_head, int64_t begin, int64_t end,
                   const float* fold, float* unit) const {
    const int heads = shape_.heads_per_kv();
    const auto divisor = static_cast<float>(flash_span_divisor(scale_, segment.seen_end(0), group_));
    for (int64_t row = begin; row < end; ++row) {
      float* out = output_of(segment, shape_, kv_head, 0, row);  // [heads][Dv]
      std::fill(out, out + heads * shape_.dim_v, 0.0f);
      add_units(kernels, QueryHeads(segment, heads, kv_head, row, shape_.dim_k), fold, unit, out);
      for (int64_t c = 0; c < heads * int64_t{shape_.dim_v}; ++c) out[c] /= divisor;
    }
  }

  FlashScale scale_;
};

}  // namespace

FlashScale flash_scale(const AttentionSpec& spec) {
  const std::string scale = spec.choice("scale", "count", "count|groups|none");
  return scale == "none" ? FlashScale::kNone : scale == "groups" ? FlashScale::kGroups : FlashScale::kCount;
}

std::unique_ptr<Mechanism> make_flash_local(const AttentionSpec& spec, const AttentionShape& shape) {
  spec.reject_unknown("group|local");
  return std::make_unique<FlashLocal>(shape, spec.integer("group", 64, kMinGroup, kMaxGroup),
                                      spec.choice("local", "blocked", "blocked|terraced") == "terraced");
}

std::unique_ptr<Mechanism> make_flash_global(const AttentionSpec& spec, const AttentionShape& shape) {
  spec.reject_unknown("group|scale");
  return std::make_unique<FlashGlobal>(shape, spec.integer("group", 64, kMinGroup, kMaxGroup), flash_scale(spec));
}

}  // namespace espalier
