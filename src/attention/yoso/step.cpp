#include "attention/yoso/yoso.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "attention/shared/fold_steps.h"
#include "attention/shared/min_norm.h"
#include "attention/shared/visible_rows.h"

namespace espalier {
namespace {

// Beside each row: 1 / |k|, then its code under each hash, small whole numbers.
class Yoso : public Mechanism {
 public:
  Yoso(const YosoOptions& options, const AttentionShape& shape) : shape_(shape), options_(options) {}

  Capabilities capabilities() const override { return {.surrogate_gradient = true}; }
  StateLayout layout() const override {
    return {.heads_kv = shape_.heads_kv,
            .dim_k = shape_.dim_k,
            .dim_v = shape_.dim_v,
            .dim_extra = static_cast<int>(1 + options_.hashes),
            .block = options_.group,
            .lag = 1,
            .fold_floats = options_.hashes * table_rows() * shape_.dim_v};
  }
  std::vector<ParameterInfo> parameters() const override {
    return {{.name = "yoso.weight",
             .shape = {shape_.heads_kv, options_.hashes, options_.bits, shape_.dim_k},
             .init = Init::kNormal,
             .feature = true,
             .trained = false}};
  }
  void load(const std::vector<std::vector<float>>& values) override {
    const int64_t outputs = options_.hashes * options_.bits, dim = shape_.dim_k;
    weight_.resize(values[0].size());
    for (int64_t head = 0; head < shape_.heads_kv; ++head) {
      for (int64_t o = 0; o < outputs; ++o) {
        for (int64_t d = 0; d < dim; ++d) {
          weight_[static_cast<size_t>((head * dim + d) * outputs + o)] =
              values[0][static_cast<size_t>((head * outputs + o) * dim + d)];
        }
      }
    }
  }

  void fold_rows(const Kernels& kernels, int, const FoldRows& rows, const float* before, float* fold) const override {
    if (before != fold) std::copy_n(before, options_.hashes * table_rows() * shape_.dim_v, fold);
    for (int64_t row = 0; row < rows.count; ++row) {
      for (int64_t j = 0; j < options_.hashes; ++j) {
        float* sum = fold + (j * table_rows() + static_cast<int64_t>(rows.extra_row(row)[1 + j])) * shape_.dim_v;
        kernels.add(sum, rows.v_row(row), shape_.dim_v, sum);
      }
    }
  }

  int64_t prepared_floats(const SegmentRows& segment) const override {
    return fresh_panels_floats(segment) + fold_steps_floats(segment);
  }
  void prepare(const Kernels& kernels, const SegmentRows& segment, int kv_head, int64_t begin, int64_t end,
               float* prepared) const override {
    make_fresh_panels(segment, kv_head, begin, end, prepared);
    std::vector<float> projected(static_cast<size_t>(options_.hashes * options_.bits));
    for (int64_t row = begin; row < end; ++row) {
      const float* k = segment.k + row * segment.k_stride + int64_t{kv_head} * shape_.dim_k;
      float* extra = segment.extra_of(row, kv_head);
      extra[0] = inverse_norm(kernels, k);
      codes(kernels, kv_head, k, projected.data(), extra + 1);
    }
    make_fold_steps(kernels, *this, segment, kv_head, begin, end, prepared + fresh_panels_floats(segment));
  }
  int64_t scratch_floats(const SegmentRows& segment) const override {
    const int64_t heads = shape_.heads_per_kv();
    return segment.rows + heads * (2 * options_.group + kPanel + options_.hashes) + options_.hashes * options_.bits;
  }
  void attend(const Kernels& kernels, const SegmentRows& segment, int kv_head, int64_t begin, int64_t end,
              const float* prepared, float* scratch) const override {
    const int heads = shape_.heads_per_kv();
    const int64_t dim_v = shape_.dim_v, window = 2 * options_.group, hashes = options_.hashes;
    const float share = 1.0f / static_cast<float>(hashes);
    float* scores = scratch + segment.rows;      // [heads][window]
    float* temporary = scores + heads * window;  // [heads][16]
    float* code = temporary + heads * kPanel;    // [heads][hashes]
    float* projected = code + heads * hashes;    // [hashes bits]
    for (int64_t row = begin; row < end; ++row) {
      const VisibleRows all(segment, kv_head, row, reinterpret_cast<int32_t*>(scratch));
      const int64_t position = all.position(), group_begin = position / options_.group * options_.group;
      const VisibleRows visible = all.range(segment.state->window_begin(position), position + 1);
      const QueryHeads queries(segment, heads, kv_head, row, shape_.dim_k);
      const float* fold = fold_for(segment, kv_head, position, prepared + fresh_panels_floats(segment));
      visible.scores(kernels, queries.q, heads, prepared, temporary, scores, window);
      float* out = output_of(segment, shape_, kv_head, 0, row);  // [heads][Dv]
      std::fill(out, out + heads * dim_v, 0.0f);
      for (int h = 0; h < heads; ++h) {
        float* own = code + h * hashes;
        codes(kernels, kv_head, queries.q[h], projected, own);
        for (int64_t j = 0; j < hashes; ++j) {
          const float* sum = fold + (j * table_rows() + static_cast<int64_t>(own[j])) * dim_v;
          kernels.add_scaled(sum, share, dim_v, out + h * dim_v);
        }
        const float inverse = inverse_norm(kernels, queries.q[h]);
        for (int64_t j = 0; j < visible.count(); ++j) {
          const float* extra = all.extra(visible.begin() + j);
          float& weight = scores[h * window + j];
          weight = visible.begin() + j >= group_begin ? expectation(weight * inverse * extra[0])
                                                      : share * collisions(own, extra + 1);
        }
      }
      visible.weighted_sum(kernels, scores, window, heads, out);
      for (int h = 0; h < heads; ++h) {
        float* y = out + h * dim_v;
        const float norm = std::max(std::sqrt(kernels.dot(y, y, dim_v)), static_cast<float>(kYosoMinNorm));
        for (int64_t c = 0; c < dim_v; ++c) y[c] /= norm;
      }
    }
  }

 private:
  int64_t table_rows() const { return int64_t{1} << options_.bits; }
  float inverse_norm(const Kernels& kernels, const float* x) const {
    return 1.0f / std::max(std::sqrt(kernels.dot(x, x, shape_.dim_k)), kMinNorm);
  }
  // (1 - acos(0.98 x) / pi)^bits
  float expectation(float x) const {
    const double angle = std::acos(kYosoShrink * std::clamp(double{x}, -1.0, 1.0));
    return static_cast<float>(std::pow(1.0 - angle * std::numbers::inv_pi, static_cast<double>(options_.bits)));
  }
  float collisions(const float* a, const float* b) const {
    float count = 0.0f;
    for (int64_t j = 0; j < options_.hashes; ++j) count += a[j] == b[j] ? 1.0f : 0.0f;
    return count;
  }
  // out [hashes]: bit i of code j is the sign of projection (j, i); `projected` [hashes bits] is scratch.
  void codes(const Kernels& kernels, int kv_head, const float* x, float* projected, float* out) const {
    const int64_t outputs = options_.hashes * options_.bits, dim = shape_.dim_k;
    std::fill(projected, projected + outputs, 0.0f);
    kernels.weighted_sum({.weights = x,
                          .rows = weight_.data() + kv_head * dim * outputs,
                          .count = dim,
                          .row_stride = outputs,
                          .dim = outputs,
                          .out = projected});
    for (int64_t j = 0; j < options_.hashes; ++j) {
      int64_t code = 0;
      for (int64_t i = 0; i < options_.bits; ++i) {
        code |= projected[j * options_.bits + i] > 0.0f ? int64_t{1} << i : 0;
      }
      out[j] = static_cast<float>(code);
    }
  }

  AttentionShape shape_;
  YosoOptions options_;
  std::vector<float> weight_;  // [Hk][Dk][hashes bits]
};

}  // namespace

YosoOptions YosoOptions::of(const AttentionOptions& options) {
  return {.group = options.integer("group"), .bits = options.integer("bits"), .hashes = options.integer("hashes")};
}

const AttentionCard& yoso_card() {
  static const AttentionCard card{
      .name = "yoso",
      .summary = "(1 - angle / pi)^bits inside a group, hash tables that estimate it for older groups",
      .paper = "Zeng et al. 2021, arXiv 2111.09714",
      .options = {group_option(), integer_option("bits", "8", 1, 16, "bits of a hash code"),
                  integer_option("hashes", "5", 1, 64, "hash tables")},
      .samples = {"yoso(group=8,bits=2,hashes=3)", "yoso(group=12,bits=5,hashes=1)"},
      .in_models = {"yoso(group=8,bits=3,hashes=4)"},
      .make = [](const AttentionOptions& options, const AttentionShape& shape) {
        return std::make_unique<Yoso>(YosoOptions::of(options), shape);
      }};
  return card;
}

}  // namespace espalier
