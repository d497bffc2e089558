#include "attention/transnormer/transnormer.h"

#include <algorithm>
#include <cmath>

#include "attention/linear/linear.h"
#include "attention/shared/additive.h"
#include "attention/shared/visible_rows.h"

namespace espalier {
namespace {

class DiagAttention : public Mechanism {
 public:
  DiagAttention(const AttentionShape& shape, int64_t group) : shape_(shape), group_(group) {}

  Capabilities capabilities() const override { return {}; }
  StateLayout layout() const override {
    return {.heads_kv = shape_.heads_kv, .dim_k = shape_.dim_k, .dim_v = shape_.dim_v, .block = group_, .lag = 0};
  }
  int64_t prepared_floats(const SegmentRows& segment) const override { return fresh_panels_floats(segment); }
  void prepare(const Kernels&, const SegmentRows& segment, int kv_head, int64_t begin, int64_t end,
               float* prepared) const override {
    make_fresh_panels(segment, kv_head, begin, end, prepared);
  }
  int64_t scratch_floats(const SegmentRows& segment) const override {
    return segment.rows + shape_.heads_per_kv() * (group_ + kPanel);
  }
  void attend(const Kernels& kernels, const SegmentRows& segment, int kv_head, int64_t begin, int64_t end,
              const float* prepared, float* scratch) const override {
    const int heads = shape_.heads_per_kv();
    const float factor = 1.0f / std::sqrt(static_cast<float>(shape_.dim_k));
    float* scores = scratch + segment.rows;      // [heads][group]
    float* temporary = scores + heads * group_;  // [heads][16]
    for (int64_t row = begin; row < end; ++row) {
      const VisibleRows all(segment, kv_head, row, reinterpret_cast<int32_t*>(scratch));
      const VisibleRows visible = all.range(all.position() / group_ * group_, all.position() + 1);
      const QueryHeads queries(segment, heads, kv_head, row, shape_.dim_k);
      visible.scores(kernels, queries.q, heads, prepared, temporary, scores, group_);
      float* out = output_of(segment, shape_, kv_head, 0, row);  // [heads][Dv]
      std::fill(out, out + heads * shape_.dim_v, 0.0f);
      float maxima[kMaxHeadsPerKv], sums[kMaxHeadsPerKv];
      kernels.exp_rows({.x = scores,
                        .stride = group_,
                        .rows = heads,
                        .count = visible.count(),
                        .factor = factor,
                        .maxima = maxima,
                        .sums = sums});
      visible.weighted_sum(kernels, scores, group_, heads, out);
      divide_rows(kernels, out, sums, heads, shape_.dim_v, out);
    }
  }

 private:
  AttentionShape shape_;
  int64_t group_;
};

// NormAttention, whatever the layer.
AdditiveForm norm_form(const AttentionOptions&, const AttentionShape& shape) {
  return {.map = make_elu_plus_one(shape.dim_k), .rms = true};
}

std::unique_ptr<Mechanism> make(const AttentionOptions& options, const AttentionShape& shape) {
  if (!is_diagonal_layer(shape)) return make_additive(norm_form(options, shape), shape);
  return std::make_unique<DiagAttention>(shape, options.integer("group"));
}

}  // namespace

const AttentionCard& transnormer_card() {
  static const AttentionCard card{
      .name = "transnormer",
      .summary = "early layers: softmax inside a group; the others: a sum over all rows, normed over all heads",
      .paper = "Qin et al. 2022, arXiv 2210.10340",
      .options = {group_option()},
      .samples = {"transnormer(group=8)"},
      .in_models = {"transnormer(group=8)"},
      .make = make,
      .additive = {.form = norm_form, .features = plain::elu_plus_one, .rms = true}};
  return card;
}

}  // namespace espalier
