#include "attention/linformer/linformer.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "attention/shared/fold_steps.h"
#include "attention/shared/visible_rows.h"
#include "core/error.h"

namespace espalier {
namespace {

// A group's fold: its r keys in panels [Dk][16], then its r values [Dv].
class Linformer : public Mechanism {
 public:
  Linformer(const LinformerOptions& options, const AttentionShape& shape) : shape_(shape), options_(options) {}

  Capabilities capabilities() const override { return {.constant_state = false}; }
  StateLayout layout() const override {
    return {.heads_kv = shape_.heads_kv,
            .dim_k = shape_.dim_k,
            .dim_v = shape_.dim_v,
            .block = options_.group,
            .lag = 1,
            .fold_floats = panels() * kPanel * shape_.dim_k + options_.rank * shape_.dim_v,
            .fold_grows = true};
  }
  std::vector<ParameterInfo> parameters() const override {
    const std::vector<int64_t> shape = {shape_.heads_kv, options_.rank, options_.group};
    return {{"linformer.k", shape, Init::kMeans, true}, {"linformer.v", shape, Init::kMeans, true}};
  }
  void load(const std::vector<std::vector<float>>& values) override {
    k_ = values[0];
    v_ = values[1];
  }

  void fold_rows(const Kernels& kernels, int kv_head, const FoldRows& rows, const float* before,
                 float* fold) const override {
    if (before != fold) std::copy_n(before, layout().fold_floats, fold);
    const int64_t dim = shape_.dim_k, head = kv_head * options_.rank * options_.group;
    std::vector<float> keys(static_cast<size_t>(options_.rank * dim), 0.0f);
    const auto compress = [&](const std::vector<float>& weights, const float* from, int64_t stride, int64_t width,
                              float* out) {
      kernels.weighted_sum({.weights = weights.data() + head,
                            .weight_stride = options_.group,
                            .queries = options_.rank,
                            .rows = from,
                            .count = rows.count,
                            .row_stride = stride,
                            .dim = width,
                            .out = out,
                            .out_stride = width});
    };
    compress(k_, rows.k, rows.k_stride, dim, keys.data());
    for (int64_t r = 0; r < options_.rank; ++r) {
      float* lane = fold + r / kPanel * kPanel * dim + r % kPanel;
      for (int64_t d = 0; d < dim; ++d) lane[d * kPanel] = keys[static_cast<size_t>(r * dim + d)];
    }
    compress(v_, rows.v, rows.v_stride, shape_.dim_v, fold + panels() * kPanel * dim);
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
    return segment.rows + shape_.heads_per_kv() * (most_scores(segment) + kPanel);
  }
  void attend(const Kernels& kernels, const SegmentRows& segment, int kv_head, int64_t begin, int64_t end,
              const float* prepared, float* scratch) const override {
    const int heads = shape_.heads_per_kv();
    const int64_t dim = shape_.dim_k, dim_v = shape_.dim_v, stride = most_scores(segment), rank = options_.rank;
    const int64_t fold_floats = layout().fold_floats, in_state = segment.state->fold_end() / options_.group;
    const float factor = 1.0f / std::sqrt(static_cast<float>(dim));
    const float* steps = prepared + fresh_panels_floats(segment);
    float* scores = scratch + segment.rows;      // [heads][most_scores]: summaries, then rows
    float* temporary = scores + heads * stride;  // [heads][16]
    for (int64_t row = begin; row < end; ++row) {
      const VisibleRows all(segment, kv_head, row, reinterpret_cast<int32_t*>(scratch));
      const int64_t window_begin = segment.state->window_begin(all.position());
      const int64_t groups = window_begin / options_.group, summaries = groups * rank;
      const VisibleRows visible = all.range(window_begin, all.position() + 1);
      const QueryHeads queries(segment, heads, kv_head, row, dim);
      const auto fold_of = [&](int64_t group) {
        return group < in_state ? segment.state->fold(kv_head) + group * fold_floats
                                : steps + (group - in_state) * fold_floats;
      };
      for (int64_t group = 0; group < groups; ++group) {
        for (int64_t first = 0; first < rank; first += kPanel) {
          kernels.panel_scores({.q = queries.q,
                                .count = heads,
                                .panel = fold_of(group) + first * dim,
                                .dim = dim,
                                .scores = temporary,
                                .score_stride = kPanel});
          for (int h = 0; h < heads; ++h) {
            const float* from = temporary + h * kPanel;
            std::copy(from, from + std::min<int64_t>(kPanel, rank - first), scores + h * stride + group * rank + first);
          }
        }
      }
      visible.scores(kernels, queries.q, heads, prepared, temporary, scores + summaries, stride);
      float* out = output_of(segment, shape_, kv_head, 0, row);  // [heads][Dv]
      std::fill(out, out + heads * dim_v, 0.0f);
      const int64_t count = summaries + visible.count();
      float maxima[kMaxHeadsPerKv], sums[kMaxHeadsPerKv];
      kernels.exp_rows({.x = scores,
                        .stride = stride,
                        .rows = heads,
                        .count = count,
                        .factor = factor,
                        .maxima = maxima,
                        .sums = sums});
      for (int64_t group = 0; group < groups; ++group) {
        kernels.weighted_sum({.weights = scores + group * rank,
                              .weight_stride = stride,
                              .queries = heads,
                              .rows = fold_of(group) + panels() * kPanel * dim,
                              .count = rank,
                              .row_stride = dim_v,
                              .dim = dim_v,
                              .out = out,
                              .out_stride = dim_v});
      }
      visible.weighted_sum(kernels, scores + summaries, stride, heads, out);
      divide_rows(kernels, out, sums, heads, dim_v, out);
    }
  }

 private:
  int64_t panels() const { return (options_.rank + kPanel - 1) / kPanel; }
  // Summaries of all groups that any of the segment's rows sees, and the rows of two groups.
  int64_t most_scores(const SegmentRows& segment) const {
    const int32_t deepest = *std::max_element(segment.depth, segment.depth + segment.rows);
    const int64_t last = segment.state->length() + deepest;
    return segment.state->fold_end(last) / options_.group * options_.rank + 2 * options_.group;
  }

  AttentionShape shape_;
  LinformerOptions options_;
  std::vector<float> k_, v_;  // [Hk, r, G]
};

}  // namespace

LinformerOptions LinformerOptions::of(const AttentionOptions& given) {
  const LinformerOptions options{.group = given.integer("group"), .rank = given.integer("rank")};
  if (options.rank > options.group) {
    throw InvalidArgument(error_text("attention '" + given.spec().text() + "'",
                                     "a rank of at most " + std::to_string(options.group) + ", the group",
                                     std::to_string(options.rank)));
  }
  return options;
}

const AttentionCard& linformer_card() {
  static const AttentionCard card{
      .name = "linformer",
      .summary = "softmax over two groups and a few learned summaries of each older group",
      .paper = "Wang et al. 2020, arXiv 2006.04768",
      .options = {group_option(), integer_option("rank", "16", 1, kMaxGroup, "summaries of a group")},
      .samples = {"linformer(group=8,rank=3)", "linformer(group=20,rank=17)", "linformer(group=12,rank=12)"},
      .in_models = {"linformer(group=8,rank=3)"},
      .make = [](const AttentionOptions& options, const AttentionShape& shape) {
        return std::make_unique<Linformer>(LinformerOptions::of(options), shape);
      }};
  return card;
}

}  // namespace espalier
