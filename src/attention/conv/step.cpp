#include "attention/conv/conv.h"

#include <algorithm>

#include "attention/shared/visible_rows.h"

namespace espalier {

void ConvFilter::add(const Kernels& kernels, const VisibleRows& all, int first_head, int heads, int64_t dim_v,
                     float* sums, float* out) const {
  const int64_t first = all.position() + 1 - taps_;
  const VisibleRows rows = all.range(first, first + width_);
  std::fill(sums, sums + heads * dim_v, 0.0f);
  rows.weighted_sum(kernels, weight_.data() + first_head * width_ + rows.begin() - first, width_, heads, sums);
  kernels.add(out, sums, heads * dim_v, out);
}

namespace {

class Conv : public Mechanism {
 public:
  Conv(const AttentionShape& shape, int64_t taps) : shape_(shape), filter_(taps, shape.span) {}

  Capabilities capabilities() const override { return {.span = true}; }
  StateLayout layout() const override {
    return {.heads_kv = shape_.heads_kv,
            .dim_k = shape_.dim_k,
            .dim_v = shape_.dim_v,
            .block = kPanel,
            .lag = 0,
            .tail = filter_.taps() - 1};
  }
  std::vector<ParameterInfo> parameters() const override { return {filter_.parameter(shape_)}; }
  void load(const std::vector<std::vector<float>>& values) override { filter_.load(values[0]); }
  int64_t prepared_floats(const SegmentRows&) const override { return 0; }
  void prepare(const Kernels&, const SegmentRows&, int, int64_t, int64_t, float*) const override {}
  int64_t scratch_floats(const SegmentRows& segment) const override {
    return segment.rows + int64_t{shape_.heads_per_kv()} * shape_.dim_v;
  }
  void attend(const Kernels& kernels, const SegmentRows& segment, int kv_head, int64_t begin, int64_t end, const float*,
              float* scratch) const override {
    for (int64_t row = begin; row < end; ++row) {
      const VisibleRows all(segment, kv_head, row, reinterpret_cast<int32_t*>(scratch));
      const int heads = shape_.heads_per_kv();
      float* out = output_of(segment, shape_, kv_head, 0, row);  // [heads][Dv]
      std::fill(out, out + heads * shape_.dim_v, 0.0f);
      filter_.add(kernels, all, kv_head * heads, heads, shape_.dim_v, scratch + segment.rows, out);
    }
  }

 private:
  AttentionShape shape_;
  ConvFilter filter_;
};

}  // namespace

const AttentionCard& conv_card() {
  static const AttentionCard card{.name = "conv",
                                  .summary = "a causal filter over v, one for each query head",
                                  .paper = "You et al. 2024 (ICML), arXiv 2406.07368",
                                  .options = {taps_option(32, 1)},
                                  .samples = {"conv(taps=1)", "conv(taps=5)", "conv(taps=33)"},
                                  .in_models = {"conv(taps=5)"},
                                  .make = [](const AttentionOptions& options, const AttentionShape& shape) {
                                    return std::make_unique<Conv>(shape, options.integer("taps"));
                                  }};
  return card;
}

}  // namespace espalier
