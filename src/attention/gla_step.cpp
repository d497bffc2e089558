#include <algorithm>
#include <cmath>
#include <vector>

#include "attention/additive.h"
#include "attention/block_decay.h"
#include "attention/decay.h"
#include "attention/fold_steps.h"
#include "attention/head_norm.h"
#include "attention/visible_rows.h"

namespace espalier {
namespace {

// Beside each row: its log-decays summed from the start of its block, [Dk].
class Gla : public Mechanism {
 public:
  Gla(const AttentionSpec& spec, const AttentionShape& shape) : shape_(shape), norm_(spec, shape) {}

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
    return segment.rows + shape_.heads_per_kv() * (2 * kFoldBlock + int64_t{shape_.dim_k}) + 2 * int64_t{shape_.dim_k};
  }
  void attend(const Kernels& kernels, const SegmentRows& segment, int kv_head, int64_t begin, int64_t end,
              const float* prepared, float* scratch) const override {
    const int heads = shape_.heads_per_kv();
    const int64_t dim = shape_.dim_k, dim_v = shape_.dim_v, window = 2 * kFoldBlock;
    const float factor = 1.0f / std::sqrt(static_cast<float>(dim));
    float* scores = scratch + segment.rows;   // [heads][window]
    float* scaled = scores + heads * window;  // [heads][Dk]
    float* decay = scaled + heads * dim;      // [Dk]
    float* key = decay + dim;                 // [Dk]
    for (int64_t row = begin; row < end; ++row) {
      const VisibleRows all(segment, kv_head, row, reinterpret_cast<int32_t*>(scratch));
      const int64_t position = all.position(), block_begin = position / kFoldBlock * kFoldBlock;
      const VisibleRows visible = all.range(segment.state->window_begin(position), position + 1);
      const QueryHeads queries(segment, heads, kv_head, row, dim);
      const float* own = all.extra(position);
      // What the block before adds to the decay of its rows and of the fold.
      const float* total = block_begin > 0 ? all.extra(block_begin - 1) : nullptr;
      for (int64_t d = 0; d < dim; ++d) decay[d] = total ? own[d] + total[d] : own[d];
      kernels.exp_sum(decay, 0.0f, dim, decay);
      for (int h = 0; h < heads; ++h) {
        for (int64_t d = 0; d < dim; ++d) scaled[h * dim + d] = queries.q[h][d] * decay[d] * factor;
      }
      float* out = output_of(segment, shape_, kv_head, 0, row);  // [heads][Dv]
      read_fold(kernels, {.weights = scaled,
                          .features = dim,
                          .queries = heads,
                          .fold = fold_for(segment, kv_head, position, prepared),
                          .dim_v = dim_v,
                          .out = out});
      for (int64_t p = visible.begin(); p <= position; ++p) {
        const float* sums = all.extra(p);
        for (int64_t d = 0; d < dim; ++d) {
          decay[d] = p >= block_begin ? own[d] - sums[d] : own[d] + (total[d] - sums[d]);
        }
        kernels.exp_sum(decay, 0.0f, dim, decay);
        all.copy_k(p, key);
        for (int64_t d = 0; d < dim; ++d) key[d] *= decay[d];
        for (int h = 0; h < heads; ++h) {
          scores[h * window + p - visible.begin()] = factor * kernels.dot(queries.q[h], key, dim);
        }
      }
      visible.weighted_sum(kernels, scores, window, heads, out);
      for (int h = 0; h < heads; ++h) norm_.apply(kernels, kv_head * heads + h, out + h * dim_v);
    }
  }

 private:
  AttentionShape shape_;
  HeadNorm norm_;
  std::vector<float> weight_, bias_;  // [d, Hk Dk], [Hk Dk]
};

}  // namespace

std::unique_ptr<Mechanism> make_gla(const AttentionSpec& spec, const AttentionShape& shape) {
  spec.reject_unknown("norm");
  return std::make_unique<Gla>(spec, shape);
}

}  // namespace espalier
