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

void panel_scores(const float* const* q, int count, const float* panel, int64_t dim, float* scores,
                  int64_t score_stride) {
  for (; count >= 4; count -= 4, q += 4, scores += 4 * score_stride) scores_of<4>(q, panel, dim, scores, score_stride);
  if (count == 3) scores_of<3>(q, panel, dim, scores, score_stride);
  if (count == 2) scores_of<2>(q, panel, dim, scores, score_stride);
  if (count == 1) scores_of<1>(q, panel, dim, scores, score_stride);
}

void panel_squares(const float* panel, int64_t dim, float* sums) {
  V16 acc = broadcast(0.0f);
  for (int64_t d = 0; d < dim; ++d) {
    const V16 keys = load(panel + d * kPanel);
    acc = fma(keys, keys, acc);
  }
  store(acc, sums);
}

// out over kWidth panels of columns, rows given by row(j).
template <int kWidth, class Row>
HWY_INLINE void weighted_columns(const float* weights, int64_t count, float* out, Row row) {
  V16 acc[kWidth];
  for (int c = 0; c < kWidth; ++c) acc[c] = load(out + c * 16);
  for (int64_t j = 0; j < count; ++j) {
    const V16 weight = broadcast(weights[j]);
    const float* values = row(j);
    for (int c = 0; c < kWidth; ++c) acc[c] = fma(weight, load(values + c * 16), acc[c]);
  }
  for (int c = 0; c < kWidth; ++c) store(acc[c], out + c * 16);
}

template <class Row>
HWY_INLINE void weighted_rows(const float* weights, int64_t count, int64_t dim, float* out, Row row) {
  int64_t c = 0;
  const auto shifted = [&](int64_t j) { return row(j) + c; };
  for (; c + 64 <= dim; c += 64) weighted_columns<4>(weights, count, out + c, shifted);
  for (; c + 16 <= dim; c += 16) weighted_columns<1>(weights, count, out + c, shifted);
  if (c < dim) {
    V16 acc = load_tail(out + c, dim - c, 0.0f);
    for (int64_t j = 0; j < count; ++j) acc = fma(broadcast(weights[j]), load_tail(row(j) + c, dim - c, 0.0f), acc);
    store_tail(acc, out + c, dim - c);
  }
}

void weighted_sum(const float* weights, const float* rows, int64_t count, int64_t row_stride, int64_t dim, float* out) {
  weighted_rows(weights, count, dim, out, [&](int64_t j) { return rows + j * row_stride; });
}

void weighted_gather(const float* weights, const float* rows, const int32_t* index, int64_t count, int64_t row_stride,
                     int64_t dim, float* out) {
  weighted_rows(weights, count, dim, out, [&](int64_t j) { return rows + index[j] * row_stride; });
}

void fill_attention_table(Kernels& kernels) {
  kernels.panel_scores = panel_scores;
  kernels.panel_squares = panel_squares;
  kernels.weighted_sum = weighted_sum;
  kernels.weighted_gather = weighted_gather;
}

}  // namespace HWY_NAMESPACE
}  // namespace espalier
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace espalier {
ESPALIER_FILL_TABLE(fill_attention, fill_attention_table)
}  // namespace espalier
#endif
