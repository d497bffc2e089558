#include "attention/lolcats/lolcats.h"

#include <algorithm>
#include <cmath>

#include "attention/conv/conv.h"
#include "attention/hedgehog/hedgehog.h"
#include "attention/shared/fold_steps.h"
#include "attention/shared/visible_rows.h"

namespace espalier {

namespace {

class Lolcats : public Mechanism {
 public:
  Lolcats(const LolcatsOptions& options, const AttentionShape& shape)
      : shape_(shape), options_(options), filter_(options.taps), features_(2 * int64_t{shape.dim_k}) {}

  Capabilities capabilities() const override { return {}; }
  StateLayout layout() const override {
    return {.heads_kv = shape_.heads_kv,
            .dim_k = shape_.dim_k,
            .dim_v = shape_.dim_v,
            .block = options_.group,
            .lag = 1,
            .tail = std::max<int64_t>(0, options_.taps - 1),
            .sinks = options_.sinks,
            .fold_floats = options_.linear ? features_ * (shape_.dim_v + 1) : 0};
  }

  std::vector<ParameterInfo> parameters() const override {
    std::vector<ParameterInfo> all;
    if (options_.linear) {
      const int64_t dim = shape_.dim_k;
      all.push_back({"feature_q.weight", {shape_.heads, dim, dim}, Init::kIdentity, true});
      all.push_back({"feature_k.weight", {shape_.heads_kv, dim, dim}, Init::kIdentity, true});
      all.push_back({"linear.tau", {shape_.heads}, Init::kZero, true});
      all.push_back({"linear.u", {shape_.heads, dim}, Init::kZero, true});
    }
    if (options_.taps > 0) all.push_back(filter_.parameter(shape_));
    return all;
  }
  void load(const std::vector<std::vector<float>>& values) override {
    if (options_.linear) {
      feature_q_ = values[0];
      feature_k_ = values[1];
      tau_ = values[2];
      u_ = values[3];
    }
    if (options_.taps > 0) filter_.load(values.back());
  }

  // Fold: S [M][Dv], then z [M].
  void fold_rows(const Kernels& kernels, int kv_head, const FoldRows& rows, const float* before,
                 float* fold) const override {
    const int64_t dim = shape_.dim_k;
    const HedgehogWeight weight{feature_k_.data() + kv_head * dim * dim, dim, dim};
    std::vector<float> phi(static_cast<size_t>(rows.count * features_));  // [rows][M]
    hedgehog(kernels, key_rows(rows, phi.data(), features_), weight);
    add_features(kernels, phi.data(), features_, rows, shape_.dim_v, before, fold);
  }

  int64_t prepared_floats(const SegmentRows& segment) const override {
    return fresh_panels_floats(segment) + sink_floats() + fold_steps_floats(segment);
  }
  void prepare(const Kernels& kernels, const SegmentRows& segment, int kv_head, int64_t begin, int64_t end,
               float* prepared) const override {
    make_fresh_panels(segment, kv_head, begin, end, prepared);
    prepared += fresh_panels_floats(segment);
    if (options_.sinks > 0 && begin == 0) gather_sinks(segment, kv_head, prepared);
    if (options_.linear) make_fold_steps(kernels, *this, segment, kv_head, begin, end, prepared + sink_floats());
  }

  int64_t scratch_floats(const SegmentRows& segment) const override { return Scratch(*this, segment, nullptr).floats; }
  void attend(const Kernels& kernels, const SegmentRows& segment, int kv_head, int64_t begin, int64_t end,
              const float* prepared, float* memory) const override {
    const int heads = shape_.heads_per_kv();
    const Scratch scratch(*this, segment, memory);
    const float* steps = prepared + fresh_panels_floats(segment) + sink_floats();
    each_run_of_fold(segment, kv_head, begin, end, std::max(1, kQueriesTogether / heads), steps,
                     [&](int64_t first, int64_t last, const float* fold) {
                       attend_rows(kernels, segment, kv_head, first, last, fold, prepared, scratch);
                     });
    for (int64_t row = begin; options_.taps > 0 && row < end; ++row) {
      filter_.add(kernels, VisibleRows(segment, kv_head, row, scratch.path), kv_head * heads, heads, shape_.dim_v,
                  scratch.conv, output_of(segment, shape_, kv_head, 0, row));
    }
  }

 private:
  struct Scratch {
    Scratch(const Lolcats& owner, const SegmentRows& segment, float* memory) {
      const int64_t queries = most_queries(owner.shape_);
      stride = kPanel + 2 * owner.options_.group;
      const auto take = [&](int64_t count) {
        float* part = memory ? memory + floats : nullptr;
        floats += count;
        return part;
      };
      path = reinterpret_cast<int32_t*>(take(segment.rows));
      scores = take(queries * stride);
      temporary = take(queries * kPanel);
      features = take(queries * owner.features_);
      sums = take(queries * owner.shape_.dim_v);
      denominators = take(queries);
      maxima = take(queries);
      conv = take(owner.shape_.heads_per_kv() * owner.shape_.dim_v);
    }
    int64_t floats = 0, stride;
    int32_t* path;                 // [R]
    float* scores;                 // [queries][stride] of sinks, then of the window
    float* temporary;              // [queries][16]
    float *features, *sums;        // [queries][M], [queries][Dv]
    float *denominators, *maxima;  // [queries]
    float* conv;                   // [heads][Dv]
  };

  // Sink keys as one panel [Dk][16], then sink values [16][Dv].
  int64_t sink_floats() const { return options_.sinks > 0 ? int64_t{kPanel} * (shape_.dim_k + shape_.dim_v) : 0; }

  // Sinks are committed rows, or rows of this very chain.
  void gather_sinks(const SegmentRows& segment, int kv_head, float* sinks) const {
    const LayerState& state = *segment.state;
    float* v = sinks + kPanel * shape_.dim_k;
    std::fill(sinks, sinks + sink_floats(), 0.0f);
    std::copy(state.sink_k_panel(kv_head), state.sink_k_panel(kv_head) + kPanel * shape_.dim_k, sinks);
    for (int64_t p = 0; p < state.sinks_held(); ++p) {
      std::copy(state.sink_v_row(kv_head, p), state.sink_v_row(kv_head, p) + shape_.dim_v, v + p * shape_.dim_v);
    }
    if (!segment.chain) return;  // StateLayout::max_tree_depth(): a tree's nodes see no sink that is not committed
    const int64_t end = std::min(options_.sinks, state.length() + segment.rows);
    for (int64_t p = state.sinks_held(); p < end; ++p) {
      const int64_t row = p - state.length();
      const float* k_row = segment.k + row * segment.k_stride + int64_t{kv_head} * shape_.dim_k;
      const float* v_row = segment.v + row * segment.v_stride + int64_t{kv_head} * shape_.dim_v;
      for (int d = 0; d < shape_.dim_k; ++d) sinks[d * kPanel + p] = k_row[d];
      std::copy(v_row, v_row + shape_.dim_v, v + p * shape_.dim_v);
    }
  }

  // Rows of one block. The numerator runs over older rows, then sinks, then the window; the denominator is the sum over
  // sinks and window, then the older rows'.
  void attend_rows(const Kernels& kernels, const SegmentRows& segment, int kv_head, int64_t begin, int64_t end,
                   const float* fold, const float* prepared, const Scratch& scratch) const {
    const int heads = shape_.heads_per_kv();
    const int64_t dim = shape_.dim_k, dim_v = shape_.dim_v, stride = scratch.stride;
    const float* sinks = prepared + fresh_panels_floats(segment);
    const int64_t window_begin = segment.state->window_begin(segment.position(begin));
    const int64_t visible_sinks = std::min(options_.sinks, window_begin);
    const RowRun run(segment, kv_head, heads, begin, end, window_begin, scratch.path);
    if (visible_sinks > 0) {
      kernels.panel_scores({.q = run.q(),
                            .count = run.queries(),
                            .panel = sinks,
                            .dim = dim,
                            .scores = scratch.scores,
                            .score_stride = stride});
    }
    float* window = scratch.scores + visible_sinks;
    run.scores(kernels, {.fresh = prepared, .dim = dim}, scratch.temporary, window, stride);
    run.each_length([&](int first, int queries, int64_t count, int stagger) {
      kernels.exp_rows({.x = scratch.scores + first * stride,
                        .stride = stride,
                        .rows = queries,
                        .count = visible_sinks + count,
                        .stagger = stagger,
                        .factor = 1.0f / std::sqrt(static_cast<float>(dim)),
                        .maxima = scratch.maxima + first,
                        .sums = scratch.denominators + first});
    });
    // Rows older than the window that are not sinks: only then is there anything in the fold.
    if (options_.linear && window_begin > options_.sinks) {
      add_older(kernels, segment, kv_head, begin, end, fold, static_cast<float>(options_.older_weight(window_begin)),
                scratch);
    } else {
      std::fill_n(scratch.sums, run.queries() * dim_v, 0.0f);
    }
    if (visible_sinks > 0) {
      kernels.weighted_sum({.weights = scratch.scores,
                            .weight_stride = stride,
                            .queries = run.queries(),
                            .rows = sinks + kPanel * dim,
                            .count = visible_sinks,
                            .row_stride = dim_v,
                            .dim = dim_v,
                            .out = scratch.sums,
                            .out_stride = dim_v});
    }
    run.weighted_sum(kernels, window, stride, scratch.sums);
    for (int64_t row = begin; row < end; ++row) {
      float* out = output_of(segment, shape_, kv_head, 0, row);  // [heads][Dv]
      const int64_t first = (row - begin) * heads;
      divide_rows(kernels, scratch.sums + first * dim_v, scratch.denominators + first, heads, dim_v, out);
    }
  }

  // sums = the fold weighed by c e^{tau + u.q} phi(q); denominators += that of z. `weight` is c.
  void add_older(const Kernels& kernels, const SegmentRows& segment, int kv_head, int64_t begin, int64_t end,
                 const float* fold, float weight, const Scratch& scratch) const {
    const int heads = shape_.heads_per_kv();
    const int64_t dim = shape_.dim_k, queries = (end - begin) * heads;
    for (int h = 0; h < heads; ++h) {
      const int64_t head = int64_t{kv_head} * heads + h;
      const MapRows rows{.x = segment.q + begin * segment.q_stride + head * dim,
                         .x_stride = segment.q_stride,
                         .count = end - begin,
                         .phi = scratch.features + h * features_,
                         .phi_stride = heads * features_};
      hedgehog(kernels, rows, {feature_q_.data() + head * dim * dim, dim, dim});
      for (int64_t row = 0; row < rows.count; ++row) {
        float gate = tau_[static_cast<size_t>(head)] + kernels.dot(u_.data() + head * dim, rows.x_row(row), dim);
        kernels.exp_sum(&gate, 0.0f, 1, &gate);
        kernels.scale(rows.phi_row(row), gate * weight, features_, rows.phi_row(row));
        scratch.denominators[row * heads + h] +=
            kernels.dot(rows.phi_row(row), fold + features_ * shape_.dim_v, features_);
      }
    }
    read_fold(kernels, {.weights = scratch.features,
                        .features = features_,
                        .queries = queries,
                        .fold = fold,
                        .dim_v = shape_.dim_v,
                        .out = scratch.sums});
  }

  AttentionShape shape_;
  LolcatsOptions options_;
  ConvFilter filter_;
  int64_t features_;  // M = 2 F
  std::vector<float> feature_q_, feature_k_, tau_, u_;
};

}  // namespace

LolcatsOptions LolcatsOptions::of_window(const AttentionOptions& options) {
  return {.group = options.integer("group"), .sinks = options.integer("sinks"), .taps = options.integer("taps")};
}

LolcatsOptions LolcatsOptions::of(const AttentionOptions& options) {
  LolcatsOptions all = of_window(options);
  all.linear = options.is("linear", "hedgehog");
  all.horizon = options.integer("horizon");
  return all;
}

std::unique_ptr<Mechanism> make_lolcats(const LolcatsOptions& options, const AttentionShape& shape) {
  return std::make_unique<Lolcats>(options, shape);
}

OptionInfo sinks_option() {
  return integer_option("sinks", "4", 0, kPanel, "first rows of the text that stay visible");
}

const AttentionCard& lolcats_card() {
  static const AttentionCard card{
      .name = "lolcats",
      .summary = "softmax over two groups and sink rows, hedgehog features over what is older, one denominator",
      .paper = "Zhang et al. 2024, arXiv 2410.10254",
      .options = {group_option(), sinks_option(), taps_option(32, 0),
                  choice_option("linear", "hedgehog|none", "what older rows are seen by"),
                  integer_option("horizon", "0", 0, int64_t{1} << 40,
                                 "older rows from which on they weigh no more as a whole; 0: never")},
      .samples = {"lolcats(group=8,taps=6)", "lolcats(group=12,sinks=0,taps=0)", "lolcats(group=8,sinks=11,taps=0)",
                  "lolcats(group=8,linear=none,taps=4)", "lolcats(group=8,sinks=2,taps=0,horizon=3)",
                  "lolcats(group=4,sinks=0,taps=2,horizon=1)", "lolcats(group=64)"},
      .in_models = {"lolcats(group=8,sinks=2,taps=3)", "lolcats(group=12)", "lolcats(group=8,horizon=5)",
                    "lolcats(group=8,linear=none,sinks=11)", "lolcats(group=16,sinks=0)", "lolcats(group=64)"},
      .make = [](const AttentionOptions& options, const AttentionShape& shape) {
        return make_lolcats(LolcatsOptions::of(options), shape);
      }};
  return card;
}

const AttentionCard& window_card() {
  static const AttentionCard card{.name = "window",
                                  .summary = "softmax over two groups and sink rows; needs no training",
                                  .paper = "Xiao et al. 2023, arXiv 2309.17453",
                                  .options = {group_option(), sinks_option(), taps_option(0, 0)},
                                  .samples = {"window(group=8)", "window(group=12,sinks=2,taps=3)",
                                              "window(group=4,sinks=13)", "window(group=256)"},
                                  .in_models = {"window(group=8,sinks=3)", "window(group=4,sinks=16)"},
                                  .make = [](const AttentionOptions& options, const AttentionShape& shape) {
                                    return make_lolcats(LolcatsOptions::of_window(options), shape);
                                  }};
  return card;
}

}  // namespace espalier
