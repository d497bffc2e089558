#include "attention/lolcats.h"

#include <algorithm>
#include <cmath>

#include "attention/conv.h"
#include "attention/flash.h"
#include "attention/fold_steps.h"
#include "attention/hedgehog.h"
#include "attention/visible_rows.h"

namespace espalier {

LolcatsOptions LolcatsOptions::of(const AttentionSpec& spec) {
  const bool window = spec.name() == "window";
  spec.reject_unknown(window ? "group|sinks|taps" : "group|sinks|taps|linear|horizon");
  return {.group = spec.integer("group", 64, kMinGroup, kMaxGroup),
          .sinks = spec.integer("sinks", 4, 0, kPanel),
          .taps = spec.integer("taps", window ? 0 : 32, 0, kMaxTaps),
          .linear = !window && spec.choice("linear", "hedgehog", "hedgehog|none") == "hedgehog",
          .horizon = spec.integer("horizon", 0, 0, int64_t{1} << 40)};
}

namespace {

class Lolcats : public Mechanism {
 public:
  Lolcats(const AttentionShape& shape, const LolcatsOptions& options)
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
    fold_features(kernels, rows, features_, shape_.dim_v, before, fold,
                  [&](float* phi) { hedgehog(kernels, key_rows(rows, phi, features_), weight); });
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
    const Scratch scratch(*this, segment, memory);
    for (int64_t row = begin; row < end; ++row) {
      const VisibleRows all(segment, kv_head, row, scratch.path);
      attend_row(kernels, segment, kv_head, row, all, prepared, scratch);
      if (options_.taps > 0) {
        const int heads = shape_.heads_per_kv();
        filter_.add(kernels, all, kv_head * heads, heads, shape_.dim_v, scratch.conv,
                    output_of(segment, shape_, kv_head, 0, row));
      }
    }
  }

 private:
  struct Scratch {
    Scratch(const Lolcats& owner, const SegmentRows& segment, float* memory) {
      const int64_t heads = owner.shape_.heads_per_kv();
      window = 2 * owner.options_.group;
      const auto take = [&](int64_t count) {
        float* part = memory ? memory + floats : nullptr;
        floats += count;
        return part;
      };
      path = reinterpret_cast<int32_t*>(take(segment.rows));
      scores = take(heads * window);
      sink_scores = take(heads * kPanel);
      temporary = take(heads * kPanel);
      features = take(heads * owner.features_);
      conv = take(heads * owner.shape_.dim_v);
      denominators = take(heads);
    }
    int64_t floats = 0, window;
    int32_t* path;           // [R]
    float* scores;           // [heads][window]
    float* sink_scores;      // [heads][16]
    float* temporary;        // [heads][16]
    float *features, *conv;  // [heads][M], [heads][Dv]
    float* denominators;     // [heads]
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
    if (!segment.chain) return;  // a tree's nodes never see a sink that is not committed
    const int64_t end = std::min(options_.sinks, state.length() + segment.rows);
    for (int64_t p = state.sinks_held(); p < end; ++p) {
      const int64_t row = p - state.length();
      const float* k_row = segment.k + row * segment.k_stride + int64_t{kv_head} * shape_.dim_k;
      const float* v_row = segment.v + row * segment.v_stride + int64_t{kv_head} * shape_.dim_v;
      for (int d = 0; d < shape_.dim_k; ++d) sinks[d * kPanel + p] = k_row[d];
      std::copy(v_row, v_row + shape_.dim_v, v + p * shape_.dim_v);
    }
  }

  void attend_row(const Kernels& kernels, const SegmentRows& segment, int kv_head, int64_t row, const VisibleRows& all,
                  const float* prepared, const Scratch& scratch) const {
    const int heads = shape_.heads_per_kv();
    const int64_t dim = shape_.dim_k;
    const float factor = 1.0f / std::sqrt(static_cast<float>(dim));
    const float* sinks = prepared + fresh_panels_floats(segment);
    const int64_t window_begin = segment.state->window_begin(all.position());
    const int64_t visible_sinks = std::min(options_.sinks, window_begin);
    const VisibleRows window = all.range(window_begin, all.position() + 1);
    const QueryHeads queries(segment, heads, kv_head, row, dim);
    window.scores(kernels, queries.q, heads, prepared, scratch.temporary, scratch.scores, scratch.window);
    if (visible_sinks > 0) {
      kernels.panel_scores({.q = queries.q,
                            .count = heads,
                            .panel = sinks,
                            .dim = dim,
                            .scores = scratch.sink_scores,
                            .score_stride = kPanel});
    }
    // Rows older than the window that are not sinks: only then is there anything in the fold.
    const bool folded = options_.linear && window_begin > options_.sinks;
    const float* fold = folded ? fold_for(segment, kv_head, all.position(), sinks + sink_floats()) : nullptr;
    const float weight = static_cast<float>(options_.older_weight(window_begin));
    float* out = output_of(segment, shape_, kv_head, 0, row);  // [heads][Dv]
    std::fill(out, out + heads * shape_.dim_v, 0.0f);
    const auto add_rows = [&](const float* weights, int64_t weight_stride, const float* rows, int64_t count) {
      kernels.weighted_sum({.weights = weights,
                            .weight_stride = weight_stride,
                            .queries = heads,
                            .rows = rows,
                            .count = count,
                            .row_stride = shape_.dim_v,
                            .dim = shape_.dim_v,
                            .out = out,
                            .out_stride = shape_.dim_v});
    };
    // Each sum, numerator and denominator, runs over older rows, then sinks, then the window.
    for (int h = 0; h < heads; ++h) {
      float* scores = scratch.scores + h * scratch.window;
      float* sink_scores = scratch.sink_scores + h * kPanel;
      kernels.scale(scores, factor, window.count(), scores);
      kernels.scale(sink_scores, factor, visible_sinks, sink_scores);
      const float maximum = std::max(kernels.max(scores, window.count()), kernels.max(sink_scores, visible_sinks));
      float denominator = 0.0f;
      if (folded) denominator = older_features(kernels, queries.q[h], kv_head * heads + h, {fold, weight}, scratch, h);
      denominator += kernels.exp_sum(sink_scores, maximum, visible_sinks, sink_scores);
      scratch.denominators[h] = denominator + kernels.exp_sum(scores, maximum, window.count(), scores);
    }
    if (folded) add_rows(scratch.features, features_, fold, features_);
    if (visible_sinks > 0) add_rows(scratch.sink_scores, kPanel, sinks + kPanel * dim, visible_sinks);
    window.weighted_sum(kernels, scratch.scores, scratch.window, heads, out);
    for (int h = 0; h < heads; ++h) {
      for (int64_t c = 0; c < shape_.dim_v; ++c) out[h * shape_.dim_v + c] /= scratch.denominators[h];
    }
  }

  struct Older {
    const float* fold;
    float weight;  // c
  };

  // The weights of the fold's rows for one query, c e^{tau + u.q} phi(q), to scratch.features[h]; returns their
  // product with z.
  float older_features(const Kernels& kernels, const float* q, int head, Older older, const Scratch& scratch,
                       int h) const {
    const int64_t dim = shape_.dim_k;
    float* features = scratch.features + h * features_;
    float gate = tau_[static_cast<size_t>(head)] + kernels.dot(u_.data() + head * dim, q, dim);
    kernels.exp_sum(&gate, 0.0f, 1, &gate);
    hedgehog(kernels, {.x = q, .phi = features}, {feature_q_.data() + head * dim * dim, dim, dim});
    kernels.scale(features, gate * older.weight, features_, features);
    return kernels.dot(features, older.fold + features_ * shape_.dim_v, features_);
  }

  AttentionShape shape_;
  LolcatsOptions options_;
  ConvFilter filter_;
  int64_t features_;  // M = 2 F
  std::vector<float> feature_q_, feature_k_, tau_, u_;
};

}  // namespace

std::unique_ptr<Mechanism> make_lolcats(const AttentionSpec& spec, const AttentionShape& shape) {
  return std::make_unique<Lolcats>(shape, LolcatsOptions::of(spec));
}

std::unique_ptr<Mechanism> make_window(const AttentionSpec& spec, const AttentionShape& shape) {
  return std::make_unique<Lolcats>(shape, LolcatsOptions::of(spec));
}

}  // namespace espalier
