#include "attention/gla/gla.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "attention/shared/additive.h"
#include "attention/shared/block_decay.h"
#include "attention/shared/fold_steps.h"
#include "attention/shared/head_norm.h"
#include "attention/shared/visible_rows.h"

namespace espalier {
namespace {

void multiply(const float* a, const float* b, int64_t n, float* y) {
  for (int64_t i = 0; i < n; ++i) y[i] = a[i] * b[i];
}

// Beside each row: its log-decays summed from the start of its block, [Dk].
class Gla : public Mechanism {
 public:
  Gla(bool norm, const AttentionShape& shape) : shape_(shape), norm_(norm, shape) {}

  Capabilities capabilities() const override { return {}; }
  StateLayout layout() const override {
    return {.heads_kv = shape_.heads_kv,
            .dim_k = shape_.dim_k,
            .dim_v = shape_.dim_v,
            .dim_extra = shape_.dim_k,
            .block = kFoldBlock,
            .lag = 1,
            .fold_floats = int64_t{shape_.dim_k} * shape_.dim_v};
  }
  std::vector<ParameterInfo> parameters() const override {
    const int64_t outputs = int64_t{shape_.heads_kv} * shape_.dim_k;
    std::vector<ParameterInfo> all = {{"gla.weight", {outputs, shape_.hidden}, Init::kZero, true},
                                      {"gla.bias", {outputs}, Init::kZero, true}};
    norm_.add_parameter(all);
    return all;
  }
  void load(const std::vector<std::vector<float>>& values) override {
    weight_ = transposed(values[0], shape_.hidden);
    bias_ = values[1];
    norm_.load(values);
  }

  void fold_rows(const Kernels& kernels, int, const FoldRows& rows, const float* before, float* fold) const override {
    const int64_t dim = shape_.dim_k, last = rows.count - 1;
    std::vector<float> keys(static_cast<size_t>(rows.count * dim)), decay(static_cast<size_t>(dim));
    const float* total = rows.extra_row(last);
    kernels.exp_sum(total, 0.0f, dim, decay.data());
    for (int64_t d = 0; d < dim; ++d) {
      kernels.scale(before + d * shape_.dim_v, decay[static_cast<size_t>(d)], shape_.dim_v, fold + d * shape_.dim_v);
    }
    for (int64_t row = 0; row < rows.count; ++row) {
      for (int64_t d = 0; d < dim; ++d) decay[static_cast<size_t>(d)] = total[d] - rows.extra_row(row)[d];
      kernels.exp_sum(decay.data(), 0.0f, dim, decay.data());
      for (int64_t d = 0; d < dim; ++d) {
        keys[static_cast<size_t>(row * dim + d)] = rows.k_row(row)[d] * decay[static_cast<size_t>(d)];
      }
    }
    add_outer_products(kernels, keys.data(), dim, rows, shape_.dim_v, fold, 1.0f, fold);
  }

  // Until prepare() sums them: the row's own log-decays.
  bool has_gates() const override { return true; }
  void make_gates(const Kernels& kernels, const SegmentRows& segment, int64_t begin, int64_t end) const override {
    // `extra` of all KV heads stand side by side.
    float* z = segment.extra_of(begin, 0);  // [rows][Hk, Dk]
    project_gates(kernels, segment, begin, end, weight_, bias_, z);
    const int64_t count = (end - begin) * shape_.heads_kv * shape_.dim_k;
    kernels.scale(z, -1.0f, count, z);
    kernels.activate(Activation::kSoftplus, z, count, z);
    kernels.scale(z, static_cast<float>(-1.0 / kGateDivisor), count, z);
  }

  int64_t prepared_floats(const SegmentRows& segment) const override { return fold_steps_floats(segment); }
  void prepare(const Kernels& kernels, const SegmentRows& segment, int kv_head, int64_t begin, int64_t end,
               float* prepared) const override {
    for (int64_t row = begin; row < end; ++row) {
      float* sums = segment.extra_of(row, kv_head);
      if (const float* before = extra_before(segment, kv_head, row, kFoldBlock)) {
        kernels.add(before, sums, shape_.dim_k, sums);
      }
    }
    make_fold_steps(kernels, *this, segment, kv_head, begin, end, prepared);
  }
  int64_t scratch_floats(const SegmentRows& segment) const override {
    return segment.rows + most_queries(shape_) * (2 * kFoldBlock + 3 * int64_t{shape_.dim_k} + shape_.dim_v) +
           int64_t{shape_.dim_k} + 4 * panel_floats();
  }
  void attend(const Kernels& kernels, const SegmentRows& segment, int kv_head, int64_t begin, int64_t end,
              const float* prepared, float* scratch) const override {
    const int64_t together = std::max(1, kQueriesTogether / shape_.heads_per_kv());
    each_run_of_fold(segment, kv_head, begin, end, together, prepared,
                     [&](int64_t first, int64_t last, const float* fold) {
                       attend_rows(kernels, segment, kv_head, first, last, fold, scratch);
                     });
  }

 private:
  static_assert(kFoldBlock == kPanel, "a block's keys are the lanes of a panel");
  int64_t panel_floats() const { return kPanel * int64_t{shape_.dim_k}; }

  // Panels [Dk][16] of the keys at positions [first, first + count), and of the log-decays beside them.
  struct Block {
    float *keys, *sums;
    float* copies;  // memory for 16 rows
  };
  void make_block(const VisibleRows& rows, int64_t first, int64_t count, const Block& block) const {
    const int64_t dim = shape_.dim_k;
    for (int64_t j = 0; j < count; ++j) rows.copy_k(first + j, block.copies + j * dim);
    rows_to_panel(block.copies, dim, 0, count, dim, block.keys);
    for (int64_t j = 0; j < count; ++j) std::copy_n(rows.extra(first + j), dim, block.copies + j * dim);
    rows_to_panel(block.copies, dim, 0, count, dim, block.sums);
  }

  // Rows [begin, end) of one block, which read the same fold. What their block adds to the decay of the block before it
  // and of the fold is a factor of the queries, so that the block before is decayed to its own end once for all rows
  // that share it.
  void attend_rows(const Kernels& kernels, const SegmentRows& segment, int kv_head, int64_t begin, int64_t end,
                   const float* fold, float* scratch) const {
    const int heads = shape_.heads_per_kv();
    const int64_t dim = shape_.dim_k, dim_v = shape_.dim_v, window = 2 * kFoldBlock, queries = (end - begin) * heads;
    const float factor = 1.0f / std::sqrt(static_cast<float>(dim));
    int32_t* path = reinterpret_cast<int32_t*>(scratch);
    float* scores = scratch + segment.rows;                  // [queries][window]
    float* plain = scores + most_queries(shape_) * window;   // [queries][Dk] c q,
    float* decayed = plain + most_queries(shape_) * dim;     // by the row's own block,
    float* for_fold = decayed + most_queries(shape_) * dim;  // and by the block before
    float* sums = for_fold + most_queries(shape_) * dim;     // [queries][Dv]
    float* decay = sums + most_queries(shape_) * dim_v;      // [Dk]
    const Block block{decay + dim, decay + dim + panel_floats(), decay + dim + 2 * panel_floats()};
    float* decayed_keys = block.copies + panel_floats();
    const int64_t position = segment.position(begin), block_begin = position / kFoldBlock * kFoldBlock;
    const int64_t window_begin = segment.state->window_begin(position), before = block_begin - window_begin;

    for (int64_t row = begin; row < end; ++row) {
      const QueryHeads own(segment, heads, kv_head, row, dim);
      kernels.exp_sum(segment.extra_of(row, kv_head), 0.0f, dim, decay);
      for (int h = 0; h < heads; ++h) {
        const int64_t i = (row - begin) * heads + h;
        kernels.scale(own.q[h], factor, dim, plain + i * dim);
        multiply(plain + i * dim, decay, dim, decayed + i * dim);
      }
    }
    // The fold and the block before, as `rows` rows from `row` on see them.
    const auto score_before = [&](int64_t row, int64_t rows) {
      const int64_t first = (row - begin) * heads, count = rows * heads;
      if (before == 0) {
        std::copy_n(decayed + first * dim, count * dim, for_fold + first * dim);
        return;
      }
      const VisibleRows visible(segment, kv_head, row, path);
      const float* total = visible.extra(block_begin - 1);
      make_block(visible, window_begin, before, block);
      kernels.decay_panel(block.keys, block.sums, total, dim, decayed_keys);
      kernels.exp_sum(total, 0.0f, dim, decay);
      const float* q[kMaxHeadsPerKv];
      for (int64_t i = 0; i < count; ++i) {
        q[i] = decayed + (first + i) * dim;
        multiply(q[i], decay, dim, for_fold + (first + i) * dim);
      }
      kernels.panel_scores({.q = q,
                            .count = static_cast<int>(count),
                            .panel = decayed_keys,
                            .dim = dim,
                            .scores = scores + first * window,
                            .score_stride = window});
    };
    if (segment.chain || block_begin <= segment.state->length()) {
      score_before(begin, end - begin);
    } else {
      for (int64_t row = begin; row < end; ++row) score_before(row, 1);
    }

    for (int64_t row = begin; row < end; ++row) {
      // A chain's rows find their keys among the last one's.
      if (row == begin || !segment.chain) {
        const int64_t newest = segment.chain ? end - 1 : row;
        make_block(VisibleRows(segment, kv_head, newest, path), block_begin, segment.position(newest) + 1 - block_begin,
                   block);
      }
      // Of rows behind this one, too: those scores are not used.
      kernels.decay_panel(block.keys, block.sums, segment.extra_of(row, kv_head), dim, decayed_keys);
      const float* q[kMaxHeadsPerKv];
      for (int h = 0; h < heads; ++h) q[h] = plain + ((row - begin) * heads + h) * dim;
      kernels.panel_scores({.q = q,
                            .count = heads,
                            .panel = decayed_keys,
                            .dim = dim,
                            .scores = scores + (row - begin) * heads * window + before,
                            .score_stride = window});
    }
    read_fold(kernels,
              {.weights = for_fold, .features = dim, .queries = queries, .fold = fold, .dim_v = dim_v, .out = sums});
    RowRun(segment, kv_head, heads, begin, end, window_begin, path).weighted_sum(kernels, scores, window, sums);
    for (int64_t row = begin; row < end; ++row) {
      float* out = output_of(segment, shape_, kv_head, 0, row);  // [heads][Dv]
      std::copy_n(sums + (row - begin) * heads * dim_v, heads * dim_v, out);
      for (int h = 0; h < heads; ++h) norm_.apply(kernels, kv_head * heads + h, out + h * dim_v);
    }
  }

  AttentionShape shape_;
  HeadNorm norm_;
  std::vector<float> weight_, bias_;  // [d, Hk Dk], [Hk Dk]
};

}  // namespace

const AttentionCard& gla_card() {
  static const AttentionCard card{.name = "gla",
                                  .summary = "a sum over all rows that forgets by a gate for each channel",
                                  .paper = "Yang et al. 2023, arXiv 2312.06635",
                                  .options = {norm_option()},
                                  .samples = {"gla", "gla(norm=none)"},
                                  .in_models = {"gla"},
                                  .make = [](const AttentionOptions& options, const AttentionShape& shape) {
                                    return std::make_unique<Gla>(has_head_norm(options), shape);
                                  }};
  return card;
}

}  // namespace espalier
