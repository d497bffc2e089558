// The Context that runs a model's forward at inference: rows of all segments on arena memory, packed weights.
#pragma once

#include <array>
#include <span>
#include <vector>

#include "attention/operator.h"
#include "models/model.h"
#include "models/step_loader.h"

namespace espalier {

// Rows in an arena; a slice of columns is not needed, a slice of rows is a Rows.
struct Rows {
  float* data = nullptr;
  int64_t rows = 0, columns = 0;  // rows stand `columns` floats apart

  float* row(int64_t r) const { return data + r * columns; }
};

// The parts of a step that all rows share.
struct StepRows {
  std::span<const Segment> segments;
  std::vector<int64_t> first_row;                // per segment
  std::vector<int32_t> tokens, parents, depths;  // [R]; parents and depths within the segment
  std::vector<int64_t> positions;                // [R]
  std::vector<const float*> vectors;             // [R] rows in place of tokens' embeddings, null: none; empty: nowhere
  std::vector<int32_t> token_types;              // [R]
  std::vector<int64_t> counts;                   // per segment: its rows
  std::vector<uint8_t> chain, span;              // per segment
  std::vector<int64_t> wanted;                   // rows whose outputs are wanted, ascending,
  std::vector<OutputSet> wanted_outputs;         // and which
};

class StepContext {
 public:
  using Tensor = Rows;
  using Matrix = StepMatrix;
  using Vector = std::vector<float>;
  using Tokens = std::span<const int32_t>;

  // Keeps references; `pending` receives every layer's k and v rows. `observer` may be null.
  StepContext(const Kernels& kernels, Workspace& workspace, const std::vector<std::unique_ptr<Mechanism>>& mechanisms,
              const ModelConfig& config, const StepRows& rows, std::vector<Pending>& pending,
              StepObserver* observer = nullptr);

  Rows embed(const StepMatrix& table, std::span<const int32_t> tokens);
  Rows add_positions(const Rows& x, const StepMatrix& table);
  Rows add_token_types(const Rows& x, const StepMatrix& table);
  Rows rms_norm(const Rows& x, const std::vector<float>& weight, double eps);
  Rows layer_norm(const Rows& x, const std::vector<float>& weight, const std::vector<float>& bias, double eps);
  template <size_t N>
  std::array<Rows, N> project(const Rows& x, const std::array<const StepMatrix*, N>& layers) {
    static_assert(N <= kMaxProjections);
    std::array<Rows, N> results;
    for (size_t i = 0; i < N; ++i) results[i] = allocate(x.rows, layers[i]->weight.outputs());
    project(x, std::span<const StepMatrix* const>(layers), std::span<const Rows>(results));
    return results;
  }
  Rows scale_norm(const Rows& x, const std::vector<float>& factor, double eps);
  Rows add_sinusoids(const Rows& x, const std::vector<float>& factor);
  Rows scale_shift(const Rows& x, const std::vector<float>& scale, const std::vector<float>& shift);
  Rows shift_tokens(int64_t layer, const Rows& x);
  Rows rotate(const Rows& x, int64_t heads, int64_t head_dim);
  Rows attend(int64_t layer, const Rows& hidden, const Rows& q, const Rows& k, const Rows& v,
              const std::vector<float>* bias = nullptr);
  // The source's keys and values are in the segments' states already.
  Rows attend_source(int64_t layer, const Rows& q, const StepMatrix&, const StepMatrix&) {
    return attend_source(layer, q);
  }
  Rows scale(const Rows& x, double factor);
  Rows activate(Activation f, const Rows& x);
  Rows gated(Activation f, const Rows& gate, const Rows& up);
  Rows add(const Rows& a, const Rows& b);
  Rows add_vector(const Rows& x, const std::vector<float>& vector);
  Rows output_rows(const Rows& x);
  Rows select(const Rows& x, const std::vector<int64_t>& rows);  // [rows.size(), columns]; x where that is all

  // A layer's memory is given back at its end; only its result stays.
  template <class Body>
  Rows layer(const Rows& x, Body&& body) {
    Rows kept = x;
    if (next_.data == nullptr || next_.rows != x.rows) next_ = allocate(x.rows, x.columns);
    const Arena::Mark mark = workspace_.arena.mark();
    const Rows y = body(x);
    Rows result = next_;
    copy(y, result);
    workspace_.arena.release(mark);
    next_ = kept;  // the old input's memory takes the next layer's result
    return result;
  }

 private:
  Rows allocate(int64_t rows, int64_t columns) { return {workspace_.arena.floats(rows * columns), rows, columns}; }
  Rows attend_source(int64_t layer, const Rows& q);
  Rows attend_filtered(int64_t layer, const Rows& hidden, const Rows& q, const Rows& k, const Rows& v,
                       const std::vector<float>* bias);
  Rows convolve(int64_t layer, TailSite site, const ShortConvolution& convolution, const std::vector<float>& filter,
                const Rows& x);
  static constexpr size_t kMaxProjections = 4;
  void project(const Rows& x, std::span<const StepMatrix* const> layers, std::span<const Rows> results);
  template <class Index>
  Rows add_table_rows(const Rows& x, const StepMatrix& table, const std::vector<Index>& index);
  static void copy(const Rows& from, Rows& to);
  // The first `width` numbers of each row are kept in the layer's tail; calls body(r, before) for all rows, where
  // before(n) [width] is the row n before it on its path.
  template <class Body>
  void each_row_with_tail(int64_t layer, TailSite site, const Rows& x, Body&& body);
  template <class Body>
  void each_row(int64_t rows, int64_t floats_per_row, Body&& body);

  const Kernels& kernels_;
  Workspace& workspace_;
  const std::vector<std::unique_ptr<Mechanism>>& mechanisms_;
  const ModelConfig& config_;
  const StepRows& rows_;
  std::vector<Pending>& pending_;
  StepObserver* observer_;
  Rows next_;
  float* cosine_ = nullptr;  // [R, D/2]
  float* sine_ = nullptr;
};
static_assert(ModelContext<StepContext>);

}  // namespace espalier
