#include "attention/gated_delta/gated_delta.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "attention/shared/block_decay.h"
#include "attention/shared/fold_steps.h"
#include "attention/shared/head_norm.h"
#include "attention/shared/min_norm.h"
#include "attention/shared/visible_rows.h"

namespace espalier {
namespace {

// Beside each row: u [Dv], its log-decays summed from the start of its block, 1 / |k|.
class GatedDelta : public Mechanism {
 public:
  GatedDelta(const GatedDeltaOptions& options, const AttentionShape& shape)
      : shape_(shape), convolution_(options.convolution, shape), norm_(options.norm, shape), block_(options.block) {}

  Capabilities capabilities() const override { return {}; }
  StateLayout layout() const override {
    return {.heads_kv = shape_.heads_kv,
            .dim_k = shape_.dim_k,
            .dim_v = shape_.dim_v,
            .dim_extra = shape_.dim_v + 2,
            .block = block_,
            .lag = 1,
            .fold_floats = int64_t{shape_.dim_k} * shape_.dim_v};
  }
  std::vector<ParameterInfo> parameters() const override {
    const int64_t outputs = 2 * int64_t{shape_.heads_kv};
    std::vector<ParameterInfo> all = {{"delta.weight", {outputs, shape_.hidden}, Init::kZero, true},
                                      {"delta.bias", {outputs}, Init::kZero, true},
                                      {"delta.a_log", {shape_.heads_kv}, Init::kZero, true}};
    convolution_.add_parameters(all);
    norm_.add_parameter(all);
    return all;
  }
  void load(const std::vector<std::vector<float>>& values) override {
    // All b, then all a: rows of two for each KV head become two of all heads.
    const auto heads = static_cast<size_t>(shape_.heads_kv), width = static_cast<size_t>(shape_.hidden);
    std::vector<float> weight(values[0].size());
    bias_.resize(values[1].size());
    for (size_t output = 0; output < 2 * heads; ++output) {
      const size_t to = output % 2 * heads + output / 2;
      std::copy_n(values[0].begin() + static_cast<std::ptrdiff_t>(output * width), width,
                  weight.begin() + static_cast<std::ptrdiff_t>(to * width));
      bias_[to] = values[1][output];
    }
    weight_ = transposed(weight, shape_.hidden);
    decay_rate_.clear();
    for (const float a : values[2]) decay_rate_.push_back(static_cast<float>(-std::exp(double{a})));
    convolution_.load(values, 3);
    norm_.load(values);
  }
  const ShortConvolution* short_convolution() const override {
    return convolution_.taps() > 0 ? &convolution_ : nullptr;
  }

  void fold_rows(const Kernels& kernels, int, const FoldRows& rows, const float* before, float* fold) const override {
    const int64_t dim = shape_.dim_k, dim_v = shape_.dim_v, last = rows.count - 1;
    const float total = rows.extra_row(last)[dim_v];
    static thread_local std::vector<float> memory;  // a long prompt comes here ten thousand times
    memory.resize(static_cast<size_t>(rows.count * (dim + 1) + 1));
    float* decay = memory.data();          // [count], then the block's own
    float* keys = decay + rows.count + 1;  // [count][Dk]
    for (int64_t row = 0; row < rows.count; ++row) decay[row] = total - rows.extra_row(row)[dim_v];
    decay[rows.count] = total;
    kernels.exp_sum(decay, 0.0f, rows.count + 1, decay);
    const float whole = decay[rows.count];
    for (int64_t row = 0; row < rows.count; ++row) {
      kernels.scale(rows.k_row(row), rows.extra_row(row)[dim_v + 1] * decay[row], dim, keys + row * dim);
    }
    FoldRows updates = rows;
    updates.v = rows.extra;
    updates.v_stride = rows.extra_stride;
    add_outer_products(kernels, keys, dim, updates, dim_v, before, whole, fold);
  }

  // Until prepare() comes: beta and the row's own log-decay where the two numbers beside u will stand.
  bool has_gates() const override { return true; }
  void make_gates(const Kernels& kernels, const SegmentRows& segment, int64_t begin, int64_t end) const override {
    const int64_t heads = shape_.heads_kv;
    std::vector<float> z(static_cast<size_t>((end - begin) * 2 * heads));  // [rows][2, Hk]
    project_gates(kernels, segment, begin, end, weight_, bias_, z.data());
    for (int64_t row = begin; row < end; ++row) {
      float* beta = z.data() + (row - begin) * 2 * heads;
      float* decay = beta + heads;
      kernels.activate(Activation::kSigmoid, beta, heads, beta);
      kernels.activate(Activation::kSoftplus, decay, heads, decay);
      for (int64_t head = 0; head < heads; ++head) {
        float* gates = segment.extra_of(row, static_cast<int>(head)) + shape_.dim_v;
        gates[0] = beta[head];
        gates[1] = decay_rate_[static_cast<size_t>(head)] * decay[head];
      }
    }
  }

  int64_t prepared_floats(const SegmentRows& segment) const override {
    return fresh_panels_floats(segment) + factor_rows(segment) * decay_floats() + fold_steps_floats(segment) +
           update_floats();
  }
  // u of every row, in their order: each needs those of its ancestors and the folds before it.
  void prepare(const Kernels& kernels, const SegmentRows& segment, int kv_head, int64_t begin, int64_t end,
               float* prepared) const override {
    make_fresh_panels(segment, kv_head, begin, end, prepared);
    float* steps = steps_of(segment, prepared);
    int64_t made = begin == 0 ? 0 : fold_steps_before(segment, segment.position(begin - 1));
    std::vector<int32_t> path(static_cast<size_t>(segment.chain ? 0 : segment.rows));
    for (int64_t first = begin; first < end;) {
      const int64_t position = segment.position(first);
      for (; made < fold_steps_before(segment, position); ++made) {
        make_fold_step(kernels, *this, segment, kv_head, made, steps, RowAccess::kInPlace);
      }
      // Rows of a chain in one block go over the fold and the rows before them together.
      const int64_t together = segment.chain ? std::min({end - first, block_ - position % block_, kMostTogether}) : 1;
      make_updates(kernels, segment, kv_head, {first, first + together}, fold_for(segment, kv_head, position, steps),
                   prepared, path.data());
      first += together;
    }
  }

  int64_t scratch_floats(const SegmentRows& segment) const override {
    return segment.rows + most_queries(shape_) * (2 * block_ + kPanel + int64_t{shape_.dim_k} + shape_.dim_v + 1);
  }
  void attend(const Kernels& kernels, const SegmentRows& segment, int kv_head, int64_t begin, int64_t end,
              const float* prepared, float* scratch) const override {
    const int64_t together = std::max(1, kQueriesTogether / shape_.heads_per_kv());
    each_run_of_fold(segment, kv_head, begin, end, together, steps_of(segment, prepared),
                     [&](int64_t first, int64_t last, const float* fold) {
                       attend_rows(kernels, segment, kv_head, {first, last}, fold, prepared, scratch);
                     });
  }

 private:
  struct Range {
    int64_t begin, end;
  };
  // Whole vectors of numbers of a window: those beyond `count` are not used.
  int64_t whole(int64_t count) const { return std::min(2 * block_, (count + kPanel - 1) / kPanel * kPanel); }
  // Rows that make_updates() takes at once.
  static constexpr int64_t kMostTogether = 64;

  // Prepared: panels of the new keys; for each row, and every row j that it sees, e^{decay from j down to itself} /
  // |k_j|, and at [2 blocks] the decay of the fold; folds at borders.
  int64_t decay_floats() const { return 2 * block_ + 1; }
  // Memory of make_updates().
  int64_t update_floats() const { return block_ * (1 + 2 * block_ + kPanel + shape_.dim_k) + 4 * block_; }
  template <class Float>
  Float* factors_of(const SegmentRows& segment, Float* prepared, int64_t row) const {
    return prepared + fresh_panels_floats(segment) + row % factor_rows(segment) * decay_floats();
  }
  // A chain's are read in their slice alone.
  static int64_t factor_rows(const SegmentRows& segment) {
    return segment.chain ? std::min(segment.rows, kSlice) : segment.rows;
  }
  template <class Float>
  Float* steps_of(const SegmentRows& segment, Float* prepared) const {
    return prepared + fresh_panels_floats(segment) + factor_rows(segment) * decay_floats();
  }

  // Beside rows [begin, end) of one block, which read the same fold:
  //   u = beta (v - e^{..} S^T k^ - sum over the rows before)
  void make_updates(const Kernels& kernels, const SegmentRows& segment, int kv_head, Range rows, const float* fold,
                    float* prepared, int32_t* path) const {
    const int64_t dim = shape_.dim_k, dim_v = shape_.dim_v, row_floats = shape_.heads_kv * int64_t{dim_v + 2};
    const int64_t window = 2 * block_, count = rows.end - rows.begin, position = segment.position(rows.begin);
    const int64_t window_begin = segment.state->window_begin(position), block_begin = position / block_ * block_;
    const int64_t before = position - window_begin;                          // rows that all of these see
    float* beta = steps_of(segment, prepared) + fold_steps_floats(segment);  // [count]
    float* products = beta + count;                                          // [count][window]
    float* temporary = products + count * window;                            // [count][16]
    float* units = temporary + count * kPanel;                               // [count][Dk]
    float* sums = units + count * dim;  // [window] log-decays from the start of their blocks
    float* inverse = sums + window;     // [window] 1 / |k|
    float squares[kPanel];
    int64_t panel = -1;  // that they are of
    const auto square_of = [&](int64_t row) {
      if (row / kPanel != panel) {
        panel = row / kPanel;
        kernels.panel_squares(prepared + fresh_panel_of(segment, row) * kPanel * dim, dim, squares);
      }
      return squares[row % kPanel];
    };
    const float* k[kMostTogether];
    const VisibleRows first(segment, kv_head, rows.begin, path);
    for (int64_t j = 0; j < before; ++j) {
      const float* extra = first.extra(window_begin + j);
      sums[j] = extra[dim_v];
      inverse[j] = extra[dim_v + 1];
    }
    const float total = block_begin > window_begin ? sums[block_begin - 1 - window_begin] : 0.0f;
    for (int64_t i = 0; i < count; ++i) {
      const int64_t row = rows.begin + i, seen = before + i;
      float* extra = segment.extra_of(row, kv_head);
      const float* key = segment.k + row * segment.k_stride + kv_head * dim;
      k[i] = key;
      const float log_decay = extra[dim_v + 1];
      beta[i] = extra[dim_v];
      extra[dim_v] = sums[seen] = (position + i == block_begin ? 0.0f : sums[seen - 1]) + log_decay;
      extra[dim_v + 1] = inverse[seen] = 1.0f / std::max(std::sqrt(square_of(row)), kMinNorm);
      float* factors = factors_of(segment, prepared, row);
      for (int64_t j = 0; j < block_begin - window_begin; ++j) factors[j] = sums[seen] + (total - sums[j]);
      for (int64_t j = block_begin - window_begin; j <= seen; ++j) factors[j] = sums[seen] - sums[j];
      std::fill(factors + seen + 1, factors + window, 0.0f);
      factors[window] = sums[seen] + total;
    }
    float* all_factors = factors_of(segment, prepared, rows.begin);  // [count][decay_floats()]
    kernels.exp_sum(all_factors, 0.0f, count * decay_floats(), all_factors);
    for (int64_t i = 0; i < count; ++i) {
      float* factors = all_factors + i * decay_floats();
      kernels.multiply_scaled(inverse, 1.0f, whole(before + i + 1), factors);
      kernels.scale(k[i], -inverse[before + i] * factors[window], dim, units + i * dim);
    }
    float* updates = segment.extra_of(rows.begin, kv_head);
    kernels.weighted_sum({.weights = units,
                          .weight_stride = dim,
                          .queries = count,
                          .rows = fold,
                          .count = dim,
                          .row_stride = dim_v,
                          .dim = dim_v,
                          .out = updates,
                          .out_stride = row_floats,
                          .start = segment.v + rows.begin * segment.v_stride + kv_head * dim_v,
                          .start_stride = segment.v_stride});
    // -decay k^.k^ for every row over all that the last of them sees; each then takes those before itself.
    const VisibleRows last(segment, kv_head, rows.end - 1, path);
    const VisibleRows all = last.range(window_begin, position + count);
    all.scores(kernels, k, static_cast<int>(count), prepared, temporary, products, window);
    for (int64_t i = 0; i < count; ++i) {
      const float* factors = all_factors + i * decay_floats();
      kernels.multiply_scaled(factors, -inverse[before + i], whole(before + i), products + i * window);
    }
    if (before > 0) {
      all.range(window_begin, position)
          .weighted_extra_sum(kernels, products, window, static_cast<int>(count), updates, row_floats);
    }
    // Forward substitution: a few rows are finished one after the other, then all rows behind take them in together.
    const auto take_in = [&](int64_t from, int64_t to, int64_t row, int64_t rows_behind) {
      all.range(position + from, position + to)
          .weighted_extra_sum(kernels, products + row * window + before + from, window, static_cast<int>(rows_behind),
                              updates + row * row_floats, row_floats);
    };
    constexpr int64_t kFew = 4;
    for (int64_t from = 0; from < count; from += kFew) {
      const int64_t to = std::min(from + kFew, count);
      for (int64_t i = from; i < to; ++i) {
        if (i > from) take_in(from, i, i, 1);
        kernels.scale(updates + i * row_floats, beta[i], dim_v, updates + i * row_floats);
      }
      if (to < count) take_in(from, to, to, count - to);
    }
  }

  void attend_rows(const Kernels& kernels, const SegmentRows& segment, int kv_head, Range rows, const float* fold,
                   const float* prepared, float* scratch) const {
    const int heads = shape_.heads_per_kv();
    const int64_t dim = shape_.dim_k, dim_v = shape_.dim_v, window = 2 * block_;
    const int64_t queries = (rows.end - rows.begin) * heads;
    const float factor = 1.0f / std::sqrt(static_cast<float>(dim));
    int32_t* path = reinterpret_cast<int32_t*>(scratch);
    float* scores = scratch + segment.rows;                     // [queries][window]
    float* temporary = scores + most_queries(shape_) * window;  // [queries][16]
    float* scaled = temporary + most_queries(shape_) * kPanel;  // [queries][Dk]
    float* aside = scaled + most_queries(shape_) * dim;         // [queries][Dv]
    float* units = aside + most_queries(shape_) * dim_v;        // [queries] factor / |q|
    // Where a row has one query its sums can stand in the output.
    float* sums = heads == 1 ? output_of(segment, shape_, kv_head, 0, rows.begin) : aside;
    const int64_t sum_stride = heads == 1 ? segment.out_stride : dim_v;
    const int64_t window_begin = segment.state->window_begin(segment.position(rows.begin));
    const int64_t shared = std::max(window_begin, seen_by_all(segment, rows.begin));
    const float* q[kMaxHeadsPerKv];
    for (int64_t row = rows.begin; row < rows.end; ++row) {
      const QueryHeads own(segment, heads, kv_head, row, dim);
      for (int h = 0; h < heads; ++h) {
        const int64_t i = (row - rows.begin) * heads + h;
        q[i] = own.q[h];
        units[i] = factor / std::max(std::sqrt(kernels.dot(q[i], q[i], dim)), kMinNorm);
        kernels.scale(q[i], units[i] * factors_of(segment, prepared, row)[window], dim, scaled + i * dim);
      }
    }
    read_fold(kernels, {.weights = scaled,
                        .features = dim,
                        .queries = queries,
                        .fold = fold,
                        .dim_v = dim_v,
                        .out = sums,
                        .out_stride = sum_stride});
    // Weights of rows [first, first + n) over positions [from, to), of which each uses what it sees.
    const auto weigh = [&](const VisibleRows& visible, int64_t first, int64_t n) {
      const int64_t offset = visible.begin() - window_begin;
      visible.scores(kernels, q + (first - rows.begin) * heads, static_cast<int>(n * heads), prepared, temporary,
                     scores, window);
      for (int64_t i = 0; i < n * heads; ++i) {
        const int64_t row = first + i / heads;
        const float* factors = factors_of(segment, prepared, row) + offset;
        const float unit = units[(first - rows.begin) * heads + i];
        const int64_t seen = std::min(visible.count(), segment.position(row) + 1 - visible.begin());
        kernels.multiply_scaled(factors, unit, std::min(whole(seen), window - offset), scores + i * window);
      }
    };
    const auto add = [&](const VisibleRows& visible, const float* weights, int64_t first, int64_t n,
                         int64_t stagger = 0) {
      if (visible.count() == 0) return;
      visible.weighted_extra_sum(kernels, weights, window, static_cast<int>(n * heads),
                                 sums + (first - rows.begin) * heads * sum_stride, sum_stride, stagger);
    };
    const int64_t count = rows.end - rows.begin;
    if (segment.chain) {
      const VisibleRows all(segment, kv_head, rows.end - 1, path);
      weigh(all.range(window_begin, all.position() + 1), rows.begin, count);
      add(all.range(window_begin, shared), scores, rows.begin, count);
      add(all.range(shared, shared + 1), scores + shared - window_begin, rows.begin, count, heads);
    } else {
      const VisibleRows committed = VisibleRows(segment, kv_head, rows.begin, path).range(window_begin, shared);
      if (committed.count() > 0) weigh(committed, rows.begin, count);
      add(committed, scores, rows.begin, count);
      for (int64_t row = rows.begin; row < rows.end; ++row) {
        const VisibleRows own = VisibleRows(segment, kv_head, row, path).range(shared, segment.position(row) + 1);
        weigh(own, row, 1);
        add(own, scores, row, 1);
      }
    }
    for (int64_t row = rows.begin; row < rows.end; ++row) {
      float* out = output_of(segment, shape_, kv_head, 0, row);  // [heads][Dv]
      if (heads > 1) std::copy_n(sums + (row - rows.begin) * heads * dim_v, heads * dim_v, out);
      for (int h = 0; h < heads; ++h) norm_.apply(kernels, kv_head * heads + h, out + h * dim_v);
    }
  }

  AttentionShape shape_;
  ShortConvolution convolution_;
  HeadNorm norm_;
  int64_t block_;
  std::vector<float> weight_, bias_, decay_rate_;  // [d, 2 Hk], [2 Hk], [Hk] -e^a
};

}  // namespace

GatedDeltaOptions GatedDeltaOptions::of(const AttentionOptions& options) {
  return {.norm = has_head_norm(options), .convolution = ShortConvolutionOptions::of(options)};
}

std::unique_ptr<Mechanism> make_gated_delta(const GatedDeltaOptions& options, const AttentionShape& shape) {
  return std::make_unique<GatedDelta>(options, shape);
}

const AttentionCard& gated_delta_card() {
  static const AttentionCard card{
      .name = "gated_delta",
      .summary = "a memory that forgets by a gate and corrects what it holds under a key (gated delta rule)",
      .paper = "Yang et al. 2024, arXiv 2412.06464",
      .options = {norm_option(), short_taps_option(), short_activation_option()},
      .samples = {"gated_delta", "gated_delta(norm=none)", "gated_delta(conv=4)",
                  "gated_delta(conv=3,activation=none,norm=none)"},
      .in_models = {"gated_delta", "gated_delta(conv=4)", "gated_delta(conv=1,activation=none)"},
      .make = [](const AttentionOptions& options, const AttentionShape& shape) {
        return make_gated_delta(GatedDeltaOptions::of(options), shape);
      }};
  return card;
}

}  // namespace espalier
