// The two products of attention: rows against panels of keys, and weighted sums of value rows.
#include "kernels/tables.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention.cpp"
#include "hwy/foreach_target.h"
//
#include "kernels/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace espalier {
namespace HWY_NAMESPACE {

template <int kRows>
void scores_of(const float* const* q, const float* panel, int64_t dim, float* scores, int64_t score_stride) {
  V16 acc[kRows];
  for (V16& a : acc) a = broadcast(0.0f);
  for (int64_t d = 0; d < dim; ++d) {
    const V16 keys = load(panel + d * kPanel);
    for (int r = 0; r < kRows; ++r) acc[r] = fma(broadcast(q[r][d]), keys, acc[r]);
  }
  for (int r = 0; r < kRows; ++r) store(acc[r], scores + r * score_stride);
}

// Rows at once: enough sums for the multiply-adds not to wait for each other, few enough to stay in registers.
constexpr int kMostRows = 6;

template <int kRows = kMostRows>
void scores_of_rest(const float* const* q, int count, const float* panel, int64_t dim, float* scores,
                    int64_t score_stride) {
  if (count == kRows) return scores_of<kRows>(q, panel, dim, scores, score_stride);
  if constexpr (kRows > 1) scores_of_rest<kRows - 1>(q, count, panel, dim, scores, score_stride);
}

void panel_scores(const float* const* q, int count, const float* panel, int64_t dim, float* scores,
                  int64_t score_stride) {
  for (; count >= kMostRows; count -= kMostRows, q += kMostRows, scores += kMostRows * score_stride) {
    scores_of<kMostRows>(q, panel, dim, scores, score_stride);
  }
  scores_of_rest(q, count, panel, dim, scores, score_stride);
}

void panel_squares(const float* panel, int64_t dim, float* sums) {
  V16 acc = broadcast(0.0f);
  for (int64_t d = 0; d < dim; ++d) {
    const V16 keys = load(panel + d * kPanel);
    acc = fma(keys, keys, acc);
  }
  store(acc, sums);
}

// kQueries queries over kWidth panels of columns from c on, so that each value that is read serves them all.
template <int kQueries, int kWidth, class Row>
HWY_INLINE void weighted_columns(const WeightedSum& s, int64_t query, int64_t c, Row row) {
  const float* weights = s.weights + query * s.weight_stride;
  float* out = s.out + query * s.out_stride + c;
  V16 acc[kQueries][kWidth];
  if (s.start) {
    const float* start = s.start + query * s.out_stride + c;
    const V16 factor = broadcast(s.start_factor);
    for (int q = 0; q < kQueries; ++q) {
      for (int w = 0; w < kWidth; ++w) acc[q][w] = mul(load(start + q * s.out_stride + w * 16), factor);
    }
  } else {
    for (int q = 0; q < kQueries; ++q) {
      for (int w = 0; w < kWidth; ++w) acc[q][w] = load(out + q * s.out_stride + w * 16);
    }
  }
  for (int64_t j = 0; j < s.count; ++j) {
    const float* values = row(j) + c;
    for (int w = 0; w < kWidth; ++w) {
      const V16 value = load(values + w * 16);
      for (int q = 0; q < kQueries; ++q) {
        acc[q][w] = fma(broadcast(weights[q * s.weight_stride + j * s.weight_step]), value, acc[q][w]);
      }
    }
  }
  for (int q = 0; q < kQueries; ++q) {
    for (int w = 0; w < kWidth; ++w) store(acc[q][w], out + q * s.out_stride + w * 16);
  }
}

template <int kQueries, class Row>
HWY_INLINE void weighted_queries(const WeightedSum& s, int64_t query, Row row) {
  constexpr int kWidth = kParts == 1 ? 4 : 2;
  int64_t c = 0;
  for (; c + 16 * kWidth <= s.dim; c += 16 * kWidth) weighted_columns<kQueries, kWidth>(s, query, c, row);
  for (; c + 16 <= s.dim; c += 16) weighted_columns<kQueries, 1>(s, query, c, row);
  if (c == s.dim) return;
  for (int q = 0; q < kQueries; ++q) {
    const float* weights = s.weights + (query + q) * s.weight_stride;
    float* out = s.out + (query + q) * s.out_stride + c;
    V16 acc = s.start
                  ? mul(load_tail(s.start + (query + q) * s.out_stride + c, s.dim - c, 0.0f), broadcast(s.start_factor))
                  : load_tail(out, s.dim - c, 0.0f);
    for (int64_t j = 0; j < s.count; ++j) {
      acc = fma(broadcast(weights[j * s.weight_step]), load_tail(row(j) + c, s.dim - c, 0.0f), acc);
    }
    store_tail(acc, out, s.dim - c);
  }
}

template <class Row>
HWY_INLINE void weighted_rows(const WeightedSum& s, Row row) {
  int64_t query = 0;
  if constexpr (kParts == 1) {
    for (; query + 6 <= s.queries; query += 6) weighted_queries<6>(s, query, row);
  }
  for (; query + 3 <= s.queries; query += 3) weighted_queries<3>(s, query, row);
  for (; query < s.queries; ++query) weighted_queries<1>(s, query, row);
}

void weighted_sum(const WeightedSum& s) {
  if (s.index) {
    weighted_rows(s, [&](int64_t j) { return s.rows + s.index[j] * s.row_stride; });
  } else {
    weighted_rows(s, [&](int64_t j) { return s.rows + j * s.row_stride; });
  }
}

void fill_attention_table(Kernels& kernels) {
  kernels.panel_scores = panel_scores;
  kernels.panel_squares = panel_squares;
  kernels.weighted_sum = weighted_sum;
}

}  // namespace HWY_NAMESPACE
}  // namespace espalier
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace espalier {
ESPALIER_FILL_TABLE(fill_attention, fill_attention_table)
}  // namespace espalier
#endif
