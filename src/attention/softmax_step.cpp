#include <cmath>

#include "attention/softmax.h"
#include "attention/visible_rows.h"

namespace espalier {
namespace {

constexpr int64_t kTile = 256;

class Softmax : public Mechanism {
 public:
  explicit Softmax(const AttentionShape& shape) : shape_(shape) {}

  Capabilities capabilities() const override { return {.constant_state = false}; }
  StateLayout layout() const override {
    return {.heads_kv = shape_.heads_kv, .dim_k = shape_.dim_k, .dim_v = shape_.dim_v};
  }
  int64_t prepared_floats(const SegmentRows& segment) const override { return fresh_panels_floats(segment); }
  void prepare(const Kernels&, const SegmentRows& segment, int kv_head, float* prepared) const override {
    make_fresh_panels(segment, kv_head, prepared);
  }
  int64_t scratch_floats(const SegmentRows& segment) const override {
    return segment.rows + shape_.heads_per_kv() * (kTile + kPanel + shape_.dim_v + 2);
  }
  void attend(const Kernels& kernels, const SegmentRows& segment, int kv_head, int64_t begin, int64_t end,
              const float* prepared, float* scratch) const override {
    for (int64_t row = begin; row < end; ++row) attend_row(kernels, segment, kv_head, row, prepared, scratch);
  }

 private:
  void attend_row(const Kernels& kernels, const SegmentRows& segment, int kv_head, int64_t row, const float* prepared,
                  float* scratch) const {
    const int heads = shape_.heads_per_kv();
    const int64_t dim_v = shape_.dim_v;
    const float factor = 1.0f / std::sqrt(static_cast<float>(shape_.dim_k));
    int32_t* path = reinterpret_cast<int32_t*>(scratch);
    float* scores = scratch + segment.rows;       // [heads][kTile]
    float* temporary = scores + heads * kTile;    // [heads][16]
    float* partial = temporary + heads * kPanel;  // [heads][Dv], then maxima and sums [heads] each
    float* maximum = partial + heads * dim_v;
    float* sum = maximum + heads;
    const QueryHeads queries(segment, heads, kv_head, row, shape_.dim_k);
    const VisibleRows all(segment, kv_head, row, path);
    for (int64_t tile = 0; tile <= all.position(); tile += kTile) {
      const VisibleRows rows = all.range(tile, tile + kTile);
      rows.scores(kernels, queries.q, heads, prepared, temporary, scores, kTile);
      for (int h = 0; h < heads; ++h) {
        float* own = scores + h * kTile;
        kernels.scale(own, factor, rows.count(), own);
        const float tile_maximum = kernels.max(own, rows.count());
        const float tile_sum = kernels.exp_sum(own, tile_maximum, rows.count(), own);
        float* out = output_of(segment, shape_, kv_head, h, row);
        float* sums = tile == 0 ? out : partial + h * dim_v;
        std::fill(sums, sums + dim_v, 0.0f);
        rows.weighted_sum(kernels, own, sums);
        if (tile == 0) {
          maximum[h] = tile_maximum;
          sum[h] = tile_sum;
        } else {
          merge(kernels, tile_maximum, tile_sum, sums, maximum[h], sum[h], out);
        }
      }
    }
    for (int h = 0; h < heads; ++h) {
      float* out = output_of(segment, shape_, kv_head, h, row);
      for (int64_t c = 0; c < dim_v; ++c) out[c] /= sum[h];
    }
  }

  // Takes one tile's partial into the running one.
  void merge(const Kernels& kernels, float tile_maximum, float tile_sum, const float* tile_out, float& maximum,
             float& sum, float* out) const {
    const float merged = std::max(maximum, tile_maximum);
    float factors[2] = {maximum, tile_maximum};
    kernels.exp_sum(factors, merged, 2, factors);
    kernels.scale(out, factors[0], shape_.dim_v, out);
    kernels.add_scaled(tile_out, factors[1], shape_.dim_v, out);
    sum = std::fma(tile_sum, factors[1], sum * factors[0]);
    maximum = merged;
  }

  AttentionShape shape_;
};

}  // namespace

std::unique_ptr<Mechanism> make_softmax(const AttentionSpec& spec, const AttentionShape& shape) {
  spec.reject_unknown("");
  return std::make_unique<Softmax>(shape);
}

}  // namespace espalier
