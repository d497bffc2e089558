// The two products of attention: rows against panels of keys, and weighted sums of value rows.
#include "kernels/tables.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention.cpp"
#include "hwy/foreach_target.h"
//
#include "kernels/lanes-inl.h"

// Of a lambda whose captured sums stay in registers.
#undef ESPALIER_INLINE_LAMBDA
#define ESPALIER_INLINE_LAMBDA __attribute__((always_inline)) HWY_ATTR

HWY_BEFORE_NAMESPACE();
namespace espalier {
namespace HWY_NAMESPACE {

// Asks for memory that will be read soon. Where few rows go over the past, reading it is all that takes time. Where
// groups of rows go over the same part of it in turn, and there are as many groups as the part has panels, each asks
// for one panel of the next part: left to the first group, that one would wait for memory, which rests while the others
// compute.
HWY_INLINE void ask_for(const float* p) {
  __builtin_prefetch(p, 0, kIntoSecondLevel);
}
constexpr int64_t kRowsAhead = 16;

// acc[r] += q[r][d] * keys. Recursive, so that every sum has a constant index: one with a loop's would live in memory.
template <int kRows, int kPanels, int kRow = 0>
HWY_INLINE void add_scores(V16 (&acc)[kRows][kPanels], const float* const* q, int64_t d, const V16 (&keys)[kPanels]) {
  const V16 factor = broadcast(q[kRow][d]);
  for (int p = 0; p < kPanels; ++p) add_product(factor, keys[p], acc[kRow][p]);
  if constexpr (kRow + 1 < kRows) add_scores<kRows, kPanels, kRow + 1>(acc, q, d, keys);
}

// Rows at once: enough sums for the multiply-adds not to wait for each other, few enough to stay in registers beside
// as many for a second panel, which shares what is loaded of the rows.
constexpr int kMostRows = kParts == 1 ? 12 : 6, kPanelsTogether = kParts == 1 ? 2 : 1;

template <int kRows, int kPanels>
void scores_of(const PanelScores& s, int row, int64_t panel) {
  const float* const* q = s.q + row;
  V16 acc[kRows][kPanels];
// Unrolled, or all sums would pass through memory before and after.
#pragma GCC unroll 16
  for (auto& sums : acc) {
#pragma GCC unroll 2
    for (V16& sum : sums) sum = broadcast(0.0f);
  }
  const float* keys_of[kPanels];
  for (int p = 0; p < kPanels; ++p) keys_of[p] = s.panel + (panel + p) * s.panel_stride;
  const auto add_dimension = [&](int64_t d) ESPALIER_INLINE_LAMBDA {
    V16 keys[kPanels];
    for (int p = 0; p < kPanels; ++p) keys[p] = load(keys_of[p] + d * kPanel);
    add_scores(acc, q, d, keys);
  };
  const int64_t next = kPanels * s.panel_stride;
  if (s.count > (kPanels - 1) * kMostRows) {  // a group for each panel
    const float* share = keys_of[row / kMostRows % kPanels] + next;
    for (int64_t d = 0; d < s.dim; ++d) {
      ask_for(share + d * kPanel);
      add_dimension(d);
    }
  } else {
    for (int64_t d = 0; d < s.dim; ++d) {
      for (int p = 0; p < kPanels; ++p) ask_for(keys_of[p] + next + d * kPanel);
      add_dimension(d);
    }
  }
  float* scores = s.scores + row * s.score_stride + panel * kPanel;
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int p = 0; p < kPanels; ++p) store(acc[r][p], scores + r * s.score_stride + p * kPanel);
  }
}

// Rows from `row` on: kRows of them, or fewer that are the last.
template <int kPanels, int kRows = kMostRows>
void scores_of_rest(const PanelScores& s, int row, int64_t panel) {
  if (s.count - row >= kRows) return scores_of<kRows, kPanels>(s, row, panel);
  if constexpr (kRows > 1) scores_of_rest<kPanels, kRows - 1>(s, row, panel);
}

// All rows against some panels, then against the next: panels come from memory, and once.
void panel_scores(const PanelScores& s) {
  int64_t panel = 0;
  for (; panel + kPanelsTogether <= s.panels; panel += kPanelsTogether) {
    for (int row = 0; row < s.count; row += kMostRows) scores_of_rest<kPanelsTogether>(s, row, panel);
  }
  for (; panel < s.panels; ++panel) {
    for (int row = 0; row < s.count; row += kMostRows) scores_of_rest<1>(s, row, panel);
  }
}

void panel_squares(const float* panel, int64_t dim, float* sums) {
  V16 acc = broadcast(0.0f);
  for (int64_t d = 0; d < dim; ++d) {
    const V16 keys = load(panel + d * kPanel);
    acc = fma(keys, keys, acc);
  }
  store(acc, sums);
}

void decay_panel(const float* panel, const float* sums, const float* until, int64_t dim, float* out) {
  for (int64_t d = 0; d < dim; ++d) {
    const V16 decay = exp_lanes(sub(broadcast(until[d]), load(sums + d * kPanel)));
    store(mul(load(panel + d * kPanel), decay), out + d * kPanel);
  }
}

// Queries at once, whose sums stay in registers: 6 x 4 of 32, or 3 x 2 x 2 of 16.
constexpr int kMostQueries = kParts == 1 ? 6 : 3, kWidth = kParts == 1 ? 4 : 2;

// Rows of a weighted sum, and after how many of them all queries go on together; 0: each goes over all.
struct RowsApart {
  const float* operator()(int64_t j) const { return rows + j * stride; }
  const float* rows;
  int64_t stride, turn;
};
struct RowsByIndex {
  const float* operator()(int64_t j) const { return rows + index[j] * stride; }
  const float* rows;
  int64_t stride;
  const int32_t* index;
  static constexpr int64_t turn = 0;  // where the next ones lie is not known so far ahead
};

// kQueries queries over rows [begin, end) and kPanels panels of columns from c on, so that each value that is read
// serves them all.
template <int kQueries, int kPanels, class Row>
HWY_INLINE void weighted_columns(const WeightedSum& s, int64_t query, int64_t begin, int64_t end, int64_t c, Row row) {
  const float* weights = s.weights + query * s.weight_stride;
  float* out = s.out + query * s.out_stride + c;
  V16 acc[kQueries][kPanels];
  if (begin == 0 && s.from_zero) {
    for (auto& sums : acc) {
      for (V16& sum : sums) sum = broadcast(0.0f);
    }
  } else if (begin == 0 && s.start) {
    const int64_t stride = s.start_stride > 0 ? s.start_stride : s.out_stride;
    const float* start = s.start + query * stride + c;
    const V16 factor = broadcast(s.start_factor);
    for (int q = 0; q < kQueries; ++q) {
      for (int p = 0; p < kPanels; ++p) acc[q][p] = mul(load(start + q * stride + p * 16), factor);
    }
  } else {
    for (int q = 0; q < kQueries; ++q) {
      for (int p = 0; p < kPanels; ++p) acc[q][p] = load(out + q * s.out_stride + p * 16);
    }
  }
  const auto add_row = [&](int64_t j, const float* row_values) ESPALIER_INLINE_LAMBDA {
    V16 values[kPanels];
    for (int p = 0; p < kPanels; ++p) values[p] = load(row_values + p * 16);
    add_weighted(acc, values, weights + j * s.weight_step, s.weight_stride);
  };
  if (row.turn > 0 && s.queries > (kPanels - 1) * kMostQueries) {  // a group for each panel of columns
    const int64_t share = row.turn * s.row_stride + query / kMostQueries % kPanels * 16;
    for (int64_t j = begin; j < end; ++j) {
      const float* row_values = row(j) + c;
      ask_for(row_values + share);
      add_row(j, row_values);
    }
  } else {
    for (int64_t j = begin; j < end; ++j) {
      const float* row_values = row(j) + c;
      for (int p = 0; p < kPanels; ++p) ask_for(row_values + kRowsAhead * s.row_stride + p * 16);
      add_row(j, row_values);
    }
  }
  for (int q = 0; q < kQueries; ++q) {
    for (int p = 0; p < kPanels; ++p) store(acc[q][p], out + q * s.out_stride + p * 16);
  }
}

template <int kQueries, class Row>
HWY_INLINE void weighted_queries(const WeightedSum& s, int64_t query, int64_t begin, int64_t end, Row row) {
  int64_t c = 0;
  for (; c + 16 * kWidth <= s.dim; c += 16 * kWidth) weighted_columns<kQueries, kWidth>(s, query, begin, end, c, row);
  for (; c + 16 <= s.dim; c += 16) weighted_columns<kQueries, 1>(s, query, begin, end, c, row);
  if (c == s.dim) return;
  for (int q = 0; q < kQueries; ++q) {
    const float* weights = s.weights + (query + q) * s.weight_stride;
    float* out = s.out + (query + q) * s.out_stride + c;
    V16 acc = broadcast(0.0f);
    if (begin == 0 && !s.from_zero && s.start) {
      const float* start = s.start + (query + q) * (s.start_stride > 0 ? s.start_stride : s.out_stride) + c;
      acc = mul(load_tail(start, s.dim - c, 0.0f), broadcast(s.start_factor));
    } else if (begin > 0 || !s.from_zero) {
      acc = load_tail(out, s.dim - c, 0.0f);
    }
    for (int64_t j = begin; j < end; ++j) {
      acc = fma(broadcast(weights[j * s.weight_step]), load_tail(row(j) + c, s.dim - c, 0.0f), acc);
    }
    store_tail(acc, out, s.dim - c);
  }
}

template <class Row>
HWY_NOINLINE void weighted_query(const WeightedSum& s, int64_t query, int64_t begin, int64_t end, const Row& row) {
  weighted_queries<1>(s, query, begin, end, row);
}

// Some queries over the rows that all of them see, then each over those that it sees besides.
template <int kQueries, class Row>
HWY_INLINE void weighted_group(const WeightedSum& s, int64_t query, Row row) {
  const int64_t common = s.count + (s.stagger > 0 ? query / s.stagger : 0);
  weighted_queries<kQueries>(s, query, 0, common, row);
  if (s.stagger == 0) return;
  for (int64_t q = query + 1; q < query + kQueries; ++q) {
    const int64_t end = s.count + q / s.stagger;
    if (end > common) weighted_query(s, q, common, end, row);
  }
}

template <class Row>
HWY_INLINE void weighted_rows(const WeightedSum& s, Row row) {
  int64_t query = 0;
  for (; query + kMostQueries <= s.queries; query += kMostQueries) weighted_group<kMostQueries>(s, query, row);
  if constexpr (kParts == 1) {
    if (query + 4 <= s.queries) {
      weighted_group<4>(s, query, row);
      query += 4;
    }
    if (query + 3 <= s.queries) {
      weighted_group<3>(s, query, row);
      query += 3;
    }
  }
  if (query + 2 <= s.queries) {
    weighted_group<2>(s, query, row);
    query += 2;
  }
  for (; query < s.queries; ++query) {
    weighted_query(s, query, 0, s.count + (s.stagger > 0 ? query / s.stagger : 0), row);
  }
}

void weighted_sum_of(const WeightedSum& s, int64_t turn) {
  if (s.index) {
    weighted_rows(s, RowsByIndex{s.rows, s.row_stride, s.index});
  } else {
    weighted_rows(s, RowsApart{s.rows, s.row_stride, turn});
  }
}

// Many queries go over rows that stay in the first-level cache, then over the next: rows come from memory, and once.
void weighted_sum(const WeightedSum& s) {
  constexpr int64_t kQueriesAlone = 6, kFloatsOfTurn = 4096;
  const int64_t turn = std::max<int64_t>(kPanel, kFloatsOfTurn / std::max<int64_t>(1, s.dim));
  if (s.queries <= kQueriesAlone || s.count <= turn || s.stagger > 0) return weighted_sum_of(s, 0);
  WeightedSum part = s;
  for (int64_t begin = 0; begin < s.count; begin += turn) {
    part.count = std::min(turn, s.count - begin);
    weighted_sum_of(part, turn);
    part.weights += turn * s.weight_step;
    if (part.index) {
      part.index += turn;
    } else {
      part.rows += turn * s.row_stride;
    }
    part.start = nullptr;
    part.from_zero = false;
  }
}

void fill_attention_table(Kernels& kernels) {
  kernels.panel_scores = panel_scores;
  kernels.panel_squares = panel_squares;
  kernels.decay_panel = decay_panel;
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
