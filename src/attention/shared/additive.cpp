#include "attention/shared/additive.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "attention/shared/fold_steps.h"
#include "attention/shared/visible_rows.h"

namespace espalier {
namespace {

int64_t whole_panels(int64_t rows) {
  return (rows + kPanel - 1) / kPanel;
}

// sums[r] += values[r][0], [1], … in turn.
struct RowTotals {
  const float* values;  // [rows][count], `stride` apart
  int64_t stride, rows, count;
  int64_t stagger = 0;  // not 0: row r has count + r / stagger values, as the rows of a chain see each other
  float* sums;
};
void add_in_turn(const RowTotals& of) {
  const auto count_of = [&](int64_t row) { return of.count + (of.stagger > 0 ? row / of.stagger : 0); };
  constexpr int64_t kTogether = 4;  // an addition waits for the one before it in its row
  for (int64_t first = 0; first < of.rows; first += kTogether) {
    const int64_t rows = std::min(kTogether, of.rows - first), common = rows == kTogether ? count_of(first) : 0;
    const float* values = of.values + first * of.stride;
    float sums[kTogether];
    std::copy_n(of.sums + first, rows, sums);
    for (int64_t j = 0; j < common; ++j) {
      for (int64_t i = 0; i < kTogether; ++i) sums[i] += values[i * of.stride + j];
    }
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = common; j < count_of(first + i); ++j) sums[i] += values[i * of.stride + j];
    }
    std::copy_n(sums, rows, of.sums + first);
  }
}

class Additive : public Mechanism {
 public:
  Additive(AdditiveForm form, const AttentionShape& shape, int64_t closed_group)
      : form_(std::move(form)),
        shape_(shape),
        closed_group_(closed_group),
        block_(closed_group > 0 ? closed_group : kFoldBlock),
        features_(form_.map->features()) {}

  Capabilities capabilities() const override {
    return {.span = true, .source = closed_group_ == 0, .max_length = form_.map->max_length()};
  }
  StateLayout layout() const override {
    return {.heads_kv = shape_.heads_kv,
            .dim_k = shape_.dim_k,
            .dim_v = shape_.dim_v,
            .block = block_,
            .lag = 1,
            .fold_floats = features_ * (shape_.dim_v + 1)};
  }
  std::vector<ParameterInfo> parameters() const override { return form_.map->parameters(); }
  void load(const std::vector<std::vector<float>>& values) override { form_.map->load(values); }

  // Fold: S [M][Dv], then z [M].
  void fold_rows(const Kernels& kernels, int kv_head, const FoldRows& rows, const float* before,
                 float* fold) const override {
    if (rows.features) return add_prepared_features(kernels, rows, features_, shape_.dim_v, before, fold);
    std::vector<float> phi(static_cast<size_t>(rows.count * features_));  // [rows][M]
    form_.map->keys(kernels, key_rows(rows, phi.data(), features_), kv_head);
    add_features(kernels, phi.data(), features_, rows, shape_.dim_v, before, fold);
  }

  // Panels [M][16] of phi(k): of the committed rows that are held, then of the segment's; phi(k) row by row, of a chain
  // in the same places, as its folds are made of them; then folds at borders. Of a span: the fold of all rows that it
  // sees.
  int64_t prepared_floats(const SegmentRows& segment) const override {
    if (segment.span) return features_ * (shape_.dim_v + 1);
    return committed_floats(segment) + fresh_floats(segment) + row_floats(segment) + fold_steps_floats(segment);
  }
  void prepare(const Kernels& kernels, const SegmentRows& segment, int kv_head, int64_t begin, int64_t end,
               float* prepared) const override {
    const LayerState& state = *segment.state;
    if (segment.span) {
      const RowCopies all(segment, kv_head, state.fold_end(), segment.seen_end(0));
      return fold_rows(kernels, kv_head, all.rows, state.fold(kv_head), prepared);
    }
    if (begin == 0) {
      std::vector<float> phi(static_cast<size_t>(features_));
      std::fill(prepared, prepared + committed_floats(segment), 0.0f);
      std::vector<float> k_row(static_cast<size_t>(shape_.dim_k));
      for (int64_t position = state.first_row(); position < state.length(); ++position) {
        state.copy_k_row(kv_head, position, k_row.data());
        form_.map->keys(kernels, {.x = k_row.data(), .first = position, .phi = phi.data()}, kv_head);
        const int64_t row = position - state.first_row() / kPanel * kPanel;
        float* panel = prepared + row / kPanel * kPanel * features_;
        rows_to_panel(phi.data(), features_, row % kPanel, 1, features_, panel);
      }
    }
    float* fresh = prepared + committed_floats(segment);
    float* phi = fresh + fresh_floats(segment);
    for (int64_t row = begin; row < end; row += kPanel) {
      const int64_t place = fresh_panel_of(segment, row) * kPanel * features_;
      float* own = phi + (segment.chain ? place : 0);
      const MapRows rows{.x = segment.k + row * segment.k_stride + int64_t{kv_head} * shape_.dim_k,
                         .x_stride = segment.k_stride,
                         .count = std::min<int64_t>(kPanel, end - row),
                         .first = state.length(),
                         .depth = segment.depth + row,
                         .phi = own,
                         .phi_stride = features_};
      form_.map->keys(kernels, rows, kv_head);
      rows_to_panel(rows.phi, rows.phi_stride, 0, rows.count, features_, fresh + place);
    }
    make_fold_steps(kernels, *this, segment, kv_head, begin, end, phi + row_floats(segment), phi);
  }

  int64_t scratch_floats(const SegmentRows& segment) const override {
    return segment.rows + most_queries(shape_) * (features_ + shape_.dim_v + 1 + window() + kPanel);
  }
  void attend(const Kernels& kernels, const SegmentRows& segment, int kv_head, int64_t begin, int64_t end,
              const float* prepared, float* scratch) const override {
    const int64_t together = std::max(1, kQueriesTogether / shape_.heads_per_kv());
    const int64_t q_floats = int64_t{shape_.heads_per_kv()} * shape_.dim_k;
    ask_for_rows(segment.q + kv_head * q_floats, segment.q_stride, q_floats, begin, end);
    if (segment.span) {
      for (int64_t first = begin; first < end; first += together) {
        attend_rows(kernels, segment, kv_head, {first, std::min(end, first + together)}, prepared, prepared, scratch);
      }
      return;
    }
    const float* steps = prepared + committed_floats(segment) + fresh_floats(segment) + row_floats(segment);
    each_run_of_fold(segment, kv_head, begin, end, together, steps,
                     [&](int64_t first, int64_t last, const float* fold) {
                       attend_rows(kernels, segment, kv_head, {first, last}, fold, prepared, scratch);
                     });
  }

  bool finishes() const override { return form_.rms; }
  void finish(const Kernels& kernels, float* out) const override {
    const int64_t n = int64_t{shape_.heads} * shape_.dim_v;
    const float root = std::sqrt(kernels.dot(out, out, n)) / std::sqrt(static_cast<float>(n));
    kernels.scale(out, 1.0f / (root + 1e-8f), n, out);
  }

 private:
  struct Range {
    int64_t begin, end;
  };

  // A node sees at most this many rows beside the fold.
  int64_t window() const { return closed_group_ > 0 ? block_ : 2 * block_; }
  int64_t committed_floats(const SegmentRows& segment) const {
    const LayerState& state = *segment.state;
    return (whole_panels(state.length()) - state.first_row() / kPanel) * kPanel * features_;
  }
  int64_t fresh_floats(const SegmentRows& segment) const { return fresh_panels(segment) * kPanel * features_; }
  int64_t row_floats(const SegmentRows& segment) const {
    return segment.chain ? fresh_floats(segment) : kPanel * features_;
  }

  void attend_rows(const Kernels& kernels, const SegmentRows& segment, int kv_head, Range rows, const float* fold,
                   const float* prepared, float* scratch) const {
    const int heads = shape_.heads_per_kv();
    const int64_t dim_v = shape_.dim_v, queries = (rows.end - rows.begin) * heads;
    int32_t* path = reinterpret_cast<int32_t*>(scratch);
    float* phi = scratch + segment.rows;                          // [queries][M]
    float* sums = phi + most_queries(shape_) * features_;         // [queries][Dv]
    float* denominators = sums + most_queries(shape_) * dim_v;    // [queries]
    float* scores = denominators + most_queries(shape_);          // [queries][window]
    float* temporary = scores + most_queries(shape_) * window();  // [queries][16]
    for (int h = 0; h < heads; ++h) {
      const int head = kv_head * heads + h;
      form_.map->queries(kernels,
                         {.x = segment.q + rows.begin * segment.q_stride + int64_t{head} * shape_.dim_k,
                          .x_stride = segment.q_stride,
                          .count = rows.end - rows.begin,
                          .first = segment.state->length(),
                          .depth = segment.depth + rows.begin,
                          .phi = phi + h * features_,
                          .phi_stride = heads * features_},
                         head);
    }
    for (int64_t query = 0; query < queries; ++query) {
      denominators[query] = kernels.dot(phi + query * features_, fold + features_ * dim_v, features_);
    }
    read_fold(kernels,
              {.weights = phi, .features = features_, .queries = queries, .fold = fold, .dim_v = dim_v, .out = sums});
    const KeyPanels panels{.fresh = prepared + committed_floats(segment), .dim = features_, .committed = prepared};
    // Rows that all of these rows see, then each row's others. Weights go over into the denominators in this order.
    const int64_t window_begin = segment.state->window_begin(segment.position(rows.begin));
    // Rows of a chain over each other: `visible` is what the last one sees.
    const auto add = [&](const VisibleRows& visible, int64_t first_query, int64_t count, bool each_other = false) {
      if (visible.count() == 0) return;
      const float* own_phi[kMaxHeadsPerKv];
      for (int64_t i = 0; i < count; ++i) own_phi[i] = phi + (first_query + i) * features_;
      visible.scores(kernels, own_phi, static_cast<int>(count), panels, temporary, scores, window());
      const VisibleRows seen = each_other ? visible.range(visible.begin(), visible.begin() + 1) : visible;
      seen.weighted_sum(kernels, scores, window(), static_cast<int>(count), sums + first_query * dim_v,
                        each_other ? heads : 0);
      add_in_turn({.values = scores,
                   .stride = window(),
                   .rows = count,
                   .count = each_other ? 1 : visible.count(),
                   .stagger = each_other ? heads : 0,
                   .sums = denominators + first_query});
    };
    if (segment.span) return finish_rows(kernels, segment, kv_head, rows, sums, denominators);
    int64_t shared = seen_by_all(segment, rows.begin);
    for (int64_t row = rows.begin; row < rows.end; ++row) shared = std::min(shared, seen_end(segment, row));
    shared = std::max(shared, window_begin);
    add(VisibleRows(segment, kv_head, rows.begin, path).range(window_begin, shared), 0, queries);
    const bool each_other = segment.chain && closed_group_ == 0;
    if (each_other) {
      const VisibleRows all(segment, kv_head, rows.end - 1, path);
      add(all.range(shared, all.position() + 1), 0, queries, true);
    }
    for (int64_t row = rows.begin; row < rows.end; ++row) {
      const int64_t first_query = (row - rows.begin) * heads;
      if (!each_other) {
        add(VisibleRows(segment, kv_head, row, path).range(shared, seen_end(segment, row)), first_query, heads);
      }
    }
    finish_rows(kernels, segment, kv_head, rows, sums, denominators);
  }

  // out = sums / d(denominators).
  void finish_rows(const Kernels& kernels, const SegmentRows& segment, int kv_head, Range rows, const float* sums,
                   const float* denominators) const {
    const int heads = shape_.heads_per_kv();
    const int64_t dim_v = shape_.dim_v;
    for (int64_t row = rows.begin; row < rows.end; ++row) {
      const int64_t first_query = (row - rows.begin) * heads;
      float* out = output_of(segment, shape_, kv_head, 0, row);  // [heads][Dv]
      for (int h = 0; h < heads; ++h) {
        const float divisor = form_.denominator.of(denominators[first_query + h]);
        divide_rows(kernels, sums + (first_query + h) * dim_v, &divisor, 1, dim_v, out + h * dim_v);
      }
    }
  }

  // The first position that a row does not see.
  int64_t seen_end(const SegmentRows& segment, int64_t row) const {
    const int64_t position = segment.position(row);
    return closed_group_ > 0 ? position / closed_group_ * closed_group_ : position + 1;
  }

  AdditiveForm form_;
  AttentionShape shape_;
  int64_t closed_group_, block_, features_;
};

}  // namespace

void apply_matrix(const Kernels& kernels, const MapRows& rows, const float* weight, int64_t inputs, int64_t outputs) {
  kernels.weighted_sum({.weights = rows.x,
                        .weight_stride = rows.x_stride,
                        .queries = rows.count,
                        .rows = weight,
                        .count = inputs,
                        .row_stride = outputs,
                        .dim = outputs,
                        .out = rows.phi,
                        .out_stride = rows.phi_stride,
                        .from_zero = true});
}

std::unique_ptr<Mechanism> make_additive(AdditiveForm form, const AttentionShape& shape, int64_t closed_group) {
  return std::make_unique<Additive>(std::move(form), shape, closed_group);
}

}  // namespace espalier
