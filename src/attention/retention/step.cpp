#include "attention/retention/retention.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "attention/shared/additive.h"
#include "attention/shared/fold_steps.h"
#include "attention/shared/head_norm.h"
#include "attention/shared/visible_rows.h"

namespace espalier {
namespace {

class Retention : public Mechanism {
 public:
  Retention(const RetentionOptions& options, const AttentionShape& shape) : shape_(shape), norm_(options.norm, shape) {
    for (int head = 0; head < shape.heads_kv; ++head) {
      const double log_decay = options.log_decay(shape, head);
      for (int64_t n = 0; n <= 2 * kFoldBlock; ++n) {
        powers_.push_back(static_cast<float>(std::exp(log_decay * static_cast<double>(n))));
      }
    }
  }

  Capabilities capabilities() const override { return {}; }
  StateLayout layout() const override {
    return {.heads_kv = shape_.heads_kv,
            .dim_k = shape_.dim_k,
            .dim_v = shape_.dim_v,
            .block = kFoldBlock,
            .lag = 1,
            .fold_floats = int64_t{shape_.dim_k} * shape_.dim_v};
  }
  std::vector<ParameterInfo> parameters() const override {
    std::vector<ParameterInfo> all;
    norm_.add_parameter(all);
    return all;
  }
  void load(const std::vector<std::vector<float>>& values) override { norm_.load(values); }

  // The fold is the sum as it stands after its last row.
  void fold_rows(const Kernels& kernels, int kv_head, const FoldRows& rows, const float* before,
                 float* fold) const override {
    const float* power = powers(kv_head);
    std::vector<float> keys(static_cast<size_t>(rows.count * shape_.dim_k));
    for (int64_t row = 0; row < rows.count; ++row) {
      kernels.scale(rows.k_row(row), power[rows.count - 1 - row], shape_.dim_k, keys.data() + row * shape_.dim_k);
    }
    add_outer_products(kernels, keys.data(), shape_.dim_k, rows, shape_.dim_v, before, power[rows.count], fold);
  }

  int64_t prepared_floats(const SegmentRows& segment) const override {
    return fresh_panels_floats(segment) + fold_steps_floats(segment);
  }
  void prepare(const Kernels& kernels, const SegmentRows& segment, int kv_head, int64_t begin, int64_t end,
               float* prepared) const override {
    make_fresh_panels(segment, kv_head, begin, end, prepared);
    make_fold_steps(kernels, *this, segment, kv_head, begin, end, prepared + fresh_panels_floats(segment));
  }
  int64_t scratch_floats(const SegmentRows& segment) const override {
    return segment.rows + most_queries(shape_) * (2 * kFoldBlock + kPanel + int64_t{shape_.dim_k} + shape_.dim_v);
  }
  void attend(const Kernels& kernels, const SegmentRows& segment, int kv_head, int64_t begin, int64_t end,
              const float* prepared, float* scratch) const override {
    const int64_t together = std::max(1, kQueriesTogether / shape_.heads_per_kv());
    each_run_of_fold(segment, kv_head, begin, end, together, prepared + fresh_panels_floats(segment),
                     [&](int64_t first, int64_t last, const float* fold) {
                       attend_rows(kernels, segment, kv_head, first, last, fold, prepared, scratch);
                     });
  }

 private:
  void attend_rows(const Kernels& kernels, const SegmentRows& segment, int kv_head, int64_t begin, int64_t end,
                   const float* fold, const float* prepared, float* scratch) const {
    const int heads = shape_.heads_per_kv();
    const int64_t dim = shape_.dim_k, dim_v = shape_.dim_v, window = 2 * kFoldBlock, queries = (end - begin) * heads;
    const float factor = 1.0f / std::sqrt(static_cast<float>(dim));
    const float* power = powers(kv_head);
    int32_t* path = reinterpret_cast<int32_t*>(scratch);
    float* scores = scratch + segment.rows;                     // [queries][window]
    float* temporary = scores + most_queries(shape_) * window;  // [queries][16]
    float* scaled = temporary + most_queries(shape_) * kPanel;  // [queries][Dk]
    float* sums = scaled + most_queries(shape_) * dim;          // [queries][Dv]
    const int64_t window_begin = segment.state->window_begin(segment.position(begin));
    const RowRun run(segment, kv_head, heads, begin, end, window_begin, path);
    // Rows of the window that a query sees before its own.
    const auto newest = [&](int64_t query) { return segment.position(begin + query / heads) - window_begin; };
    for (int64_t i = 0; i < queries; ++i) {
      kernels.scale(run.q()[i], factor * power[newest(i) + 1], dim, scaled + i * dim);
    }
    read_fold(kernels,
              {.weights = scaled, .features = dim, .queries = queries, .fold = fold, .dim_v = dim_v, .out = sums});
    run.scores(kernels, {.fresh = prepared, .dim = dim}, temporary, scores, window);
    for (int64_t i = 0; i < queries; ++i) {
      for (int64_t j = 0; j <= newest(i); ++j) scores[i * window + j] *= factor * power[newest(i) - j];
    }
    run.weighted_sum(kernels, scores, window, sums);
    for (int64_t row = begin; row < end; ++row) {
      float* out = output_of(segment, shape_, kv_head, 0, row);  // [heads][Dv]
      std::copy_n(sums + (row - begin) * heads * dim_v, heads * dim_v, out);
      for (int h = 0; h < heads; ++h) norm_.apply(kernels, kv_head * heads + h, out + h * dim_v);
    }
  }

  const float* powers(int kv_head) const { return powers_.data() + kv_head * (2 * kFoldBlock + 1); }

  AttentionShape shape_;
  HeadNorm norm_;
  std::vector<float> powers_;  // [Hk][2 blocks + 1] gamma^n
};

}  // namespace

double RetentionOptions::log_decay(const AttentionShape& shape, int kv_head) const {
  if (!lightning) return std::log1p(-std::exp2(-5.0 - kv_head));
  return -8.0 / shape.heads_kv * (1.0 - static_cast<double>(shape.layer) / shape.layers) * kv_head;
}

RetentionOptions RetentionOptions::of(const AttentionOptions& options) {
  return {.lightning = options.is("decay", "lightning"), .norm = has_head_norm(options)};
}

const AttentionCard& retention_card() {
  static const AttentionCard card{
      .name = "retention",
      .summary = "a sum over all rows that forgets at a fixed rate for each head",
      .paper = "Sun et al. 2023, arXiv 2307.08621; Qin et al. 2024, arXiv 2401.04658",
      .options = {choice_option("decay", "retnet|lightning", "which rates: by the head, or by the layer, too"),
                  norm_option()},
      .samples = {"retention", "retention(decay=lightning,norm=none)"},
      .in_models = {"retention"},
      .make = [](const AttentionOptions& options, const AttentionShape& shape) {
        return std::make_unique<Retention>(RetentionOptions::of(options), shape);
      }};
  return card;
}

}  // namespace espalier
