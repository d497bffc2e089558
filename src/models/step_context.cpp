#include "models/step_context.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "attention/attend.h"
#include "attention/shared/short_convolution.h"
#include "models/rotary.h"
#include "models/state_access.h"

namespace espalier {

StepContext::StepContext(const Kernels& kernels, Workspace& workspace,
                         const std::vector<std::unique_ptr<Mechanism>>& mechanisms, const ModelConfig& config,
                         const StepRows& rows, std::vector<Pending>& pending, StepObserver* observer)
    : kernels_(kernels),
      workspace_(workspace),
      mechanisms_(mechanisms),
      config_(config),
      rows_(rows),
      pending_(pending),
      observer_(observer) {
  if (config.rotary_dim == 0) return;
  const int64_t half = config.rotary_dim / 2;
  const int64_t count = static_cast<int64_t>(rows.positions.size());
  cosine_ = workspace.arena.floats(count * half);
  sine_ = workspace.arena.floats(count * half);
  const std::vector<double> frequency = rotary_frequencies(config);
  for (int64_t r = 0; r < count; ++r) {
    for (int64_t i = 0; i < half; ++i) {
      const double angle = static_cast<double>(rows.positions[r]) * frequency[i];
      cosine_[r * half + i] = static_cast<float>(std::cos(angle));
      sine_[r * half + i] = static_cast<float>(std::sin(angle));
    }
  }
}

// Runs body(row) for all rows; on all threads when the work is worth the hand-over.
template <class Body>
void StepContext::each_row(int64_t rows, int64_t floats_per_row, Body&& body) {
  constexpr int64_t kFloatsPerTask = 16384;
  const int64_t rows_per_task = std::max<int64_t>(1, kFloatsPerTask / std::max<int64_t>(1, floats_per_row));
  const int64_t tasks = (rows + rows_per_task - 1) / rows_per_task;
  if (tasks <= 1) {
    for (int64_t r = 0; r < rows; ++r) body(r);
    return;
  }
  workspace_.pool.run(tasks, [&](int64_t task, int) {
    const int64_t end = std::min(rows, (task + 1) * rows_per_task);
    for (int64_t r = task * rows_per_task; r < end; ++r) body(r);
  });
}

void StepContext::copy(const Rows& from, Rows& to) {
  std::memcpy(to.data, from.data, static_cast<size_t>(from.rows * from.columns) * sizeof(float));
}

Rows StepContext::embed(const StepMatrix& table, std::span<const int32_t> tokens) {
  Rows x = allocate(static_cast<int64_t>(tokens.size()), table.weight.inputs());
  each_row(x.rows, x.columns * 4, [&](int64_t r) {
    const float* vector = rows_.vectors.empty() ? nullptr : rows_.vectors[static_cast<size_t>(r)];
    if (vector) {
      std::copy_n(vector, x.columns, x.row(r));
    } else {
      table.weight.row(tokens[r], x.row(r));
    }
  });
  return x;
}

template <class Index>
Rows StepContext::add_table_rows(const Rows& x, const StepMatrix& table, const std::vector<Index>& index) {
  Rows y = allocate(x.rows, x.columns);
  each_row(x.rows, x.columns * 4, [&](int64_t r) {
    table.weight.row(index[static_cast<size_t>(r)], y.row(r));
    kernels_.add(x.row(r), y.row(r), x.columns, y.row(r));
  });
  return y;
}

Rows StepContext::add_positions(const Rows& x, const StepMatrix& table) {
  return add_table_rows(x, table, rows_.positions);
}

Rows StepContext::add_token_types(const Rows& x, const StepMatrix& table) {
  return add_table_rows(x, table, rows_.token_types);
}

Rows StepContext::add_vector(const Rows& x, const std::vector<float>& vector) {
  each_row(x.rows, x.columns, [&](int64_t r) { kernels_.add(x.row(r), vector.data(), x.columns, x.row(r)); });
  return x;
}

Rows StepContext::rms_norm(const Rows& x, const std::vector<float>& weight, double eps) {
  Rows y = allocate(x.rows, x.columns);
  each_row(x.rows, x.columns, [&](int64_t r) { kernels_.rms_norm(x.row(r), weight.data(), eps, x.columns, y.row(r)); });
  return y;
}

Rows StepContext::layer_norm(const Rows& x, const std::vector<float>& weight, const std::vector<float>& bias,
                             double eps) {
  Rows y = allocate(x.rows, x.columns);
  each_row(x.rows, x.columns,
           [&](int64_t r) { kernels_.layer_norm(x.row(r), weight.data(), bias.data(), eps, x.columns, y.row(r)); });
  return y;
}

void StepContext::project(const Rows& x, std::span<const StepMatrix* const> layers, std::span<const Rows> results) {
  const PackedMatrix* weights[kMaxProjections];
  OutputRows outputs[kMaxProjections];
  for (size_t i = 0; i < results.size(); ++i) {
    weights[i] = &layers[i]->weight;
    outputs[i] = {.y = results[i].data, .y_stride = results[i].columns};
  }
  // One product for each run of matrices of a type: a quantized file may have q and v of different ones.
  for (size_t first = 0; first < layers.size();) {
    size_t last = first + 1;
    while (last < layers.size() && weights[last]->type() == weights[first]->type()) ++last;
    multiply(kernels_, workspace_.pool, workspace_.arena, std::span(weights + first, last - first), x.data, x.rows,
             x.columns, std::span(outputs + first, last - first));
    first = last;
  }
  for (size_t i = 0; i < results.size(); ++i) {
    if (!layers[i]->bias.empty()) add_vector(results[i], layers[i]->bias);
  }
}

Rows StepContext::scale_norm(const Rows& x, const std::vector<float>& factor, double eps) {
  Rows y = allocate(x.rows, x.columns);
  const auto d = static_cast<double>(x.columns);
  each_row(x.rows, x.columns, [&](int64_t r) {
    const double root = std::sqrt(static_cast<double>(kernels_.dot(x.row(r), x.row(r), x.columns)) / d);
    kernels_.scale(x.row(r), static_cast<float>(factor[0] / std::max(root, eps)), x.columns, y.row(r));
  });
  return y;
}

Rows StepContext::add_sinusoids(const Rows& x, const std::vector<float>& factor) {
  const std::vector<double> frequency = sinusoid_frequencies(x.columns);
  const int64_t half = x.columns / 2;
  Rows y = allocate(x.rows, x.columns);
  each_row(x.rows, x.columns * 16, [&](int64_t r) {
    for (int64_t i = 0; i < half; ++i) {
      const double angle =
          static_cast<double>(rows_.positions[static_cast<size_t>(r)]) * frequency[static_cast<size_t>(i)];
      y.row(r)[i] = factor[0] * static_cast<float>(std::sin(angle));
      y.row(r)[half + i] = factor[0] * static_cast<float>(std::cos(angle));
    }
    kernels_.add(x.row(r), y.row(r), x.columns, y.row(r));
  });
  return y;
}

Rows StepContext::scale_shift(const Rows& x, const std::vector<float>& scale, const std::vector<float>& shift) {
  Rows y = allocate(x.rows, static_cast<int64_t>(scale.size()));
  each_row(x.rows, y.columns, [&](int64_t r) {
    std::copy(shift.begin(), shift.end(), y.row(r));
    for (int64_t first = 0; first < y.columns; first += x.columns) {
      kernels_.add_product(x.row(r), scale.data() + first, x.columns, y.row(r) + first);
    }
  });
  return y;
}

template <class Body>
void StepContext::each_row_with_tail(int64_t layer, TailSite site, const Rows& x, Body&& body) {
  for (size_t s = 0; s < rows_.segments.size(); ++s) {
    const std::vector<RowTail>& tails = StateAccess::tails(*rows_.segments[s].state);
    const auto tail = std::find_if(tails.begin(), tails.end(), [&](const RowTail& own) {
      return own.shape().layer == layer && own.shape().site == site;
    });
    const int64_t width = tail->shape().width, first = rows_.first_row[s];
    const int64_t count = rows_.counts[s];
    if (!rows_.span[s]) {  // a span is not committed
      std::vector<float>& kept = StateAccess::tail(pending_[s], static_cast<size_t>(tail - tails.begin()));
      kept.resize(static_cast<size_t>(count * width));
      for (int64_t r = 0; r < count; ++r) std::copy_n(x.row(first + r), width, kept.data() + r * width);
    }
    each_row(count, x.columns, [&](int64_t r) {
      body(first + r, [&](int64_t back) {
        int64_t node = r;
        for (; back > 0 && node >= 0; --back) node = rows_.parents[static_cast<size_t>(first + node)];
        return node >= 0 ? x.row(first + node) : tail->row(back + 1);
      });
    });
  }
}

Rows StepContext::shift_tokens(int64_t layer, const Rows& x) {
  const int64_t shifted = shifted_channels(x.columns);
  Rows y = allocate(x.rows, x.columns);
  each_row_with_tail(layer, TailSite::kInput, x, [&](int64_t r, const auto& before) {
    std::copy_n(before(1), shifted, y.row(r));
    std::copy_n(x.row(r) + shifted, x.columns - shifted, y.row(r) + shifted);
  });
  return y;
}

Rows StepContext::rotate(const Rows& x, int64_t heads, int64_t head_dim) {
  const int64_t half = config_.rotary_dim / 2;
  each_row(x.rows, x.columns, [&](int64_t r) {
    for (int64_t h = 0; h < heads; ++h) {
      kernels_.rotate(x.row(r) + h * head_dim, cosine_ + r * half, sine_ + r * half, 2 * half);
    }
  });
  return x;
}

// Of a mechanism that has short convolutions: x by the filter [taps][channels].
Rows StepContext::convolve(int64_t layer, TailSite site, const ShortConvolution& convolution,
                           const std::vector<float>& filter, const Rows& x) {
  Rows y = allocate(x.rows, x.columns);
  each_row_with_tail(layer, site, x, [&](int64_t r, const auto& before) {
    std::fill_n(y.row(r), x.columns, 0.0f);
    for (int64_t j = 0; j < convolution.taps(); ++j) {
      kernels_.add_product(before(convolution.taps() - 1 - j), filter.data() + j * x.columns, x.columns, y.row(r));
    }
    if (convolution.silu()) kernels_.activate(Activation::kSilu, y.row(r), x.columns, y.row(r));
  });
  return y;
}

Rows StepContext::attend(int64_t layer, const Rows& hidden, const Rows& q, const Rows& k, const Rows& v,
                         const std::vector<float>* bias) {
  const ShortConvolution* convolution = mechanisms_[layer]->short_convolution();
  if (!convolution) return attend_filtered(layer, hidden, q, k, v, bias);
  return attend_filtered(layer, hidden, convolve(layer, TailSite::kQuery, *convolution, convolution->q(), q),
                         convolve(layer, TailSite::kKey, *convolution, convolution->k(), k),
                         convolve(layer, TailSite::kValue, *convolution, convolution->v(), v), bias);
}

Rows StepContext::attend_filtered(int64_t layer, const Rows& hidden, const Rows& q, const Rows& k, const Rows& v,
                                  const std::vector<float>* bias) {
  Rows out = allocate(q.rows, config_.num_attention_heads * config_.dim_v());
  const auto own = static_cast<size_t>(layer);
  std::vector<SegmentRows> segments;
  for (size_t s = 0; s < rows_.segments.size(); ++s) {
    const int64_t first = rows_.first_row[s];
    const int64_t count = rows_.counts[s];
    const LayerState& state = StateAccess::layers(*rows_.segments[s].state)[own];
    const StateLayout& layout = state.layout();
    std::vector<float>& extra = StateAccess::extra(pending_[s], own);
    extra.resize(static_cast<size_t>(count * layout.heads_kv * layout.dim_extra));
    segments.push_back({.state = &state,
                        .rows = count,
                        .parent = rows_.parents.data() + first,
                        .depth = rows_.depths.data() + first,
                        .chain = rows_.chain[s] != 0,
                        .q = q.row(first),
                        .k = k.row(first),
                        .v = v.row(first),
                        .q_stride = q.columns,
                        .k_stride = k.columns,
                        .v_stride = v.columns,
                        .out = out.row(first),
                        .out_stride = out.columns,
                        .hidden = hidden.row(first),
                        .hidden_stride = hidden.columns,
                        .span = rows_.span[s] != 0,
                        .bias = {bias ? bias->data() : nullptr, config_.relative_bias_reach},
                        .extra = extra.data()});
    if (rows_.span[s]) continue;  // a span is not committed
    StateAccess::k(pending_[s], own).assign(k.row(first), k.row(first) + count * k.columns);
    StateAccess::v(pending_[s], own).assign(v.row(first), v.row(first) + count * v.columns);
  }
  espalier::attend(kernels_, workspace_.pool, workspace_.arena, *mechanisms_[own], segments);
  for (size_t s = 0; observer_ && s < segments.size(); ++s) observer_->attended(layer, s, segments[s]);
  return out;
}

Rows StepContext::attend_source(int64_t layer, const Rows& q) {
  Rows out = allocate(q.rows, q.columns);
  std::vector<SegmentRows> segments;
  for (size_t s = 0; s < rows_.segments.size(); ++s) {
    const int64_t first = rows_.first_row[s];
    const SourceState& source = *StateAccess::source(*rows_.segments[s].state);
    segments.push_back({.state = &source.layers[static_cast<size_t>(layer)],
                        .rows = rows_.counts[s],
                        .parent = rows_.parents.data() + first,
                        .depth = rows_.depths.data() + first,
                        .chain = true,
                        .q = q.row(first),
                        .k = q.row(first),  // not read: the rows bring no keys
                        .v = q.row(first),
                        .q_stride = q.columns,
                        .k_stride = 0,
                        .v_stride = 0,
                        .out = out.row(first),
                        .out_stride = out.columns,
                        .span = true,
                        .keys = false});
  }
  const Mechanism& mechanism = *StateAccess::source(*rows_.segments[0].state)->mechanism;
  espalier::attend(kernels_, workspace_.pool, workspace_.arena, mechanism, segments);
  for (size_t s = 0; observer_ && s < segments.size(); ++s) observer_->attended_source(layer, s, segments[s]);
  return out;
}

Rows StepContext::scale(const Rows& x, double factor) {
  each_row(x.rows, x.columns,
           [&](int64_t r) { kernels_.scale(x.row(r), static_cast<float>(factor), x.columns, x.row(r)); });
  return x;
}

Rows StepContext::activate(Activation f, const Rows& x) {
  each_row(x.rows, x.columns * 4, [&](int64_t r) { kernels_.activate(f, x.row(r), x.columns, x.row(r)); });
  return x;
}

Rows StepContext::gated(Activation f, const Rows& gate, const Rows& up) {
  each_row(gate.rows, gate.columns * 4,
           [&](int64_t r) { kernels_.activate_mul(f, gate.row(r), up.row(r), gate.columns, gate.row(r)); });
  return gate;
}

Rows StepContext::add(const Rows& a, const Rows& b) {
  each_row(a.rows, a.columns, [&](int64_t r) { kernels_.add(a.row(r), b.row(r), a.columns, b.row(r)); });
  return b;
}

Rows StepContext::output_rows(const Rows& x) {
  return select(x, rows_.wanted);
}

Rows StepContext::select(const Rows& x, const std::vector<int64_t>& rows) {
  if (static_cast<int64_t>(rows.size()) == x.rows) return x;
  Rows y = allocate(static_cast<int64_t>(rows.size()), x.columns);
  for (int64_t i = 0; i < y.rows; ++i) {
    std::memcpy(y.row(i), x.row(rows[static_cast<size_t>(i)]), static_cast<size_t>(x.columns) * sizeof(float));
  }
  return y;
}

}  // namespace espalier
