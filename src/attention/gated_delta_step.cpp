#include <algorithm>
#include <cmath>
#include <vector>

#include "attention/additive.h"
#include "attention/block_decay.h"
#include "attention/decay.h"
#include "attention/flash.h"
#include "attention/fold_steps.h"
#include "attention/head_norm.h"
#include "attention/visible_rows.h"

namespace espalier {
namespace {

// Beside each row: u [Dv], its log-decays summed from the start of its block, 1 / |k|.
class GatedDelta : public Mechanism {
 public:
  GatedDelta(const AttentionSpec& spec, const AttentionShape& shape) : shape_(shape), norm_(spec, shape) {}

  Capabilities capabilities() const override { return {}; }
  StateLayout layout() const override {
    return {.heads_kv = shape_.heads_kv,
            .dim_k = shape_.dim_k,
            .dim_v = shape_.dim_v,
            .dim_extra = shape_.dim_v + 2,
            .block = kFoldBlock,
            .lag = 1,
            .fold_floats = int64_t{shape_.dim_k} * shape_.dim_v};
  }
  std::vector<ParameterInfo> parameters() const override {
    const int64_t outputs = 2 * int64_t{shape_.heads_kv};
    std::vector<ParameterInfo> all = {{"delta.weight", {outputs, shape_.hidden}, Init::kZero, true},
                                      {"delta.bias", {outputs}, Init::kZero, true},
                                      {"delta.a_log", {shape_.heads_kv}, Init::kZero, true}};
    norm_.add_parameter(all);
    return all;
  }
  void load(const std::vector<std::vector<float>>& values) override {
    weight_ = values[0];
    bias_ = values[1];
    a_log_ = values[2];
    norm_.load(values);
  }

  void fold_rows(const Kernels& kernels, int, const FoldRows& rows, float* fold) const override {
    const int64_t dim = shape_.dim_k, dim_v = shape_.dim_v, width = dim_v + 2, last = rows.count - 1;
    const float total = rows.extra[last * width + dim_v];
    float decay[kFoldBlock];
    for (int64_t row = 0; row < rows.count; ++row) decay[row] = total - rows.extra[row * width + dim_v];
    kernels.exp_sum(decay, 0.0f, rows.count, decay);
    float whole = total;
    kernels.exp_sum(&whole, 0.0f, 1, &whole);
    kernels.scale(fold, whole, dim * dim_v, fold);
    std::vector<float> columns(static_cast<size_t>(dim * rows.count));
    for (int64_t d = 0; d < dim; ++d) {
      for (int64_t row = 0; row < rows.count; ++row) {
        const float unit = rows.k[row * dim + d] * rows.extra[row * width + dim_v + 1];
        columns[static_cast<size_t>(d * rows.count + row)] = unit * decay[row];
      }
    }
    kernels.weighted_sum({.weights = columns.data(),
                          .weight_stride = rows.count,
                          .queries = dim,
                          .rows = rows.extra,
                          .count = rows.count,
                          .row_stride = width,
                          .dim = dim_v,
                          .out = fold,
                          .out_stride = dim_v});
  }

  int64_t prepared_floats(const SegmentRows& segment) const override {
    return fresh_panels_floats(segment) + fold_steps_floats(segment);
  }
  // u of every row, in their order: each needs those of its ancestors and the folds before it.
  void prepare(const Kernels& kernels, const SegmentRows& segment, int kv_head, float* prepared) const override {
    const int64_t dim = shape_.dim_k, dim_v = shape_.dim_v;
    make_fresh_panels(segment, kv_head, prepared);
    float* steps = prepared + fresh_panels_floats(segment);
    int64_t made = 0;
    std::vector<int32_t> path(static_cast<size_t>(segment.rows));
    std::vector<float> unit(static_cast<size_t>(dim));
    float scores[2 * kFoldBlock], temporary[kPanel];
    for (int64_t row = 0; row < segment.rows; ++row) {
      float* extra = segment.extra_of(row, kv_head);
      const VisibleRows all(segment, kv_head, row, path.data());
      const int64_t position = all.position();
      for (; made < fold_steps_before(segment, position); ++made) {
        make_fold_step(kernels, *this, segment, kv_head, made, steps);
      }
      const float* k = segment.k + row * segment.kv_stride + kv_head * dim;
      const float* v = segment.v + row * segment.kv_stride + kv_head * dim_v;
      const auto [beta, log_decay] = gates(kernels, segment, kv_head, row);
      const float* before = extra_before(segment, kv_head, row);
      extra[dim_v] = (before ? before[dim_v] : 0.0f) + log_decay;
      extra[dim_v + 1] = 1.0f / std::max(std::sqrt(kernels.dot(k, k, dim)), kMinNorm);

      // u = beta (v - e^{..} S^T k^ - sum over the rows before)
      const VisibleRows earlier = all.range(segment.state->window_begin(position), position);
      const float whole = decays(kernels, all, position, earlier, scores);
      kernels.scale(k, -extra[dim_v + 1] * whole, dim, unit.data());
      std::copy(v, v + dim_v, extra);
      kernels.weighted_sum({.weights = unit.data(),
                            .rows = fold_for(segment, kv_head, position, steps),
                            .count = dim,
                            .row_stride = dim_v,
                            .dim = dim_v,
                            .out = extra});
      float products[2 * kFoldBlock];
      earlier.scores(kernels, &k, 1, prepared, temporary, products, 0);
      for (int64_t j = 0; j < earlier.count(); ++j) {
        const float inverse = all.extra(earlier.begin() + j)[dim_v + 1];
        products[j] = -scores[j] * (products[j] * extra[dim_v + 1] * inverse);
      }
      earlier.weighted_extra_sum(kernels, products, 0, 1, extra);
      kernels.scale(extra, beta, dim_v, extra);
    }
  }

  int64_t scratch_floats(const SegmentRows& segment) const override {
    return segment.rows + shape_.heads_per_kv() * (2 * kFoldBlock + kPanel + int64_t{shape_.dim_k});
  }
  void attend(const Kernels& kernels, const SegmentRows& segment, int kv_head, int64_t begin, int64_t end,
              const float* prepared, float* scratch) const override {
    const int heads = shape_.heads_per_kv();
    const int64_t dim = shape_.dim_k, dim_v = shape_.dim_v, window = 2 * kFoldBlock;
    const float factor = 1.0f / std::sqrt(static_cast<float>(dim));
    float* scores = scratch + segment.rows;      // [heads][window]
    float* temporary = scores + heads * window;  // [heads][16]
    float* scaled = temporary + heads * kPanel;  // [heads][Dk]
    float decay[2 * kFoldBlock];
    for (int64_t row = begin; row < end; ++row) {
      const VisibleRows all(segment, kv_head, row, reinterpret_cast<int32_t*>(scratch));
      const int64_t position = all.position();
      const VisibleRows visible = all.range(segment.state->window_begin(position), position + 1);
      const QueryHeads queries(segment, heads, kv_head, row, dim);
      const float whole = decays(kernels, all, position, visible, decay);
      for (int64_t j = 0; j < visible.count(); ++j) decay[j] *= all.extra(visible.begin() + j)[dim_v + 1];
      visible.scores(kernels, queries.q, heads, prepared, temporary, scores, window);
      for (int h = 0; h < heads; ++h) {
        const float* q = queries.q[h];
        const float unit = factor / std::max(std::sqrt(kernels.dot(q, q, dim)), kMinNorm);
        kernels.scale(q, unit * whole, dim, scaled + h * dim);
        for (int64_t j = 0; j < visible.count(); ++j) scores[h * window + j] *= unit * decay[j];
      }
      float* out = output_of(segment, shape_, kv_head, 0, row);  // [heads][Dv]
      std::fill(out, out + heads * dim_v, 0.0f);
      kernels.weighted_sum({.weights = scaled,
                            .weight_stride = dim,
                            .queries = heads,
                            .rows = fold_for(segment, kv_head, position, prepared + fresh_panels_floats(segment)),
                            .count = dim,
                            .row_stride = dim_v,
                            .dim = dim_v,
                            .out = out,
                            .out_stride = dim_v});
      visible.weighted_extra_sum(kernels, scores, window, heads, out);
      for (int h = 0; h < heads; ++h) norm_.apply(kernels, kv_head * heads + h, out + h * dim_v);
    }
  }

 private:
  struct Gates {
    float beta, log_decay;
  };
  Gates gates(const Kernels& kernels, const SegmentRows& segment, int kv_head, int64_t row) const {
    const float* x = segment.hidden + row * segment.hidden_stride;
    const auto z = [&](int64_t output) {
      return double{kernels.dot(weight_.data() + output * shape_.hidden, x, shape_.hidden)} +
             bias_[static_cast<size_t>(output)];
    };
    const double beta = 1.0 / (1.0 + std::exp(-z(2 * kv_head)));
    const double decay = -std::exp(double{a_log_[static_cast<size_t>(kv_head)]}) * softplus(z(2 * kv_head + 1));
    return {static_cast<float>(beta), static_cast<float>(decay)};
  }

  // decay[j] = e^{log-decays after row j of `rows` up to the node at `position`}; returns the fold's.
  float decays(const Kernels& kernels, const VisibleRows& all, int64_t position, const VisibleRows& rows,
               float* decay) const {
    const int64_t block_begin = position / kFoldBlock * kFoldBlock;
    const float own = all.extra(position)[shape_.dim_v];
    const float total = block_begin > 0 ? all.extra(block_begin - 1)[shape_.dim_v] : 0.0f;
    for (int64_t j = 0; j < rows.count(); ++j) {
      const float sum = all.extra(rows.begin() + j)[shape_.dim_v];
      decay[j] = rows.begin() + j >= block_begin ? own - sum : own + (total - sum);
    }
    kernels.exp_sum(decay, 0.0f, rows.count(), decay);
    float whole = own + total;
    kernels.exp_sum(&whole, 0.0f, 1, &whole);
    return whole;
  }

  AttentionShape shape_;
  HeadNorm norm_;
  std::vector<float> weight_, bias_, a_log_;  // [Hk 2, d], [Hk 2], [Hk]
};

}  // namespace

std::unique_ptr<Mechanism> make_gated_delta(const AttentionSpec& spec, const AttentionShape& shape) {
  spec.reject_unknown("norm");
  return std::make_unique<GatedDelta>(spec, shape);
}

}  // namespace espalier
