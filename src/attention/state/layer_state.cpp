#include "attention/state/layer_state.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "attention/operator.h"
#include "core/error.h"

namespace espalier {
namespace {

int64_t panels_for(int64_t rows) {
  return (rows + kPanel - 1) / kPanel;
}

void append_bytes(std::string& out, const void* data, size_t bytes) {
  out.append(static_cast<const char*>(data), bytes);
}

void take_bytes(std::string_view& in, void* data, size_t bytes, const std::string& where) {
  if (in.size() < bytes) {
    throw CorruptFile(error_text(where, std::to_string(bytes) + " more bytes", std::to_string(in.size())));
  }
  std::memcpy(data, in.data(), bytes);
  in.remove_prefix(bytes);
}

// A growing state is allocated in tiles, so that its size moves rarely.
constexpr int64_t kGrowthPanels = 16;
// More rows than any model has positions: a hostile length ends here, before memory is asked for.
constexpr int64_t kMaxLength = int64_t{1} << 40;

}  // namespace

int64_t StateLayout::max_tree_depth(int64_t length) const {
  const bool rows_alone = fold_floats == 0 && length >= sinks;
  if (!bounded() || rows_alone) return std::numeric_limits<int64_t>::max();
  return (length / block + lag + 1) * block - 1 - length;
}

LayerState::LayerState(const StateLayout& layout) : layout_(layout) {
  ESPALIER_CHECK(layout.sinks <= kPanel);
  Rows& rows = rows_.write();
  rows.k.resize(static_cast<size_t>(layout.heads_kv));
  rows.v.resize(static_cast<size_t>(layout.heads_kv));
  rows.extra.resize(static_cast<size_t>(layout.heads_kv));
  if (layout.bounded()) {
    // The most rows that are ever held, plus one, at any offset to a panel.
    const int64_t most = std::max((layout.lag + 1) * layout.block, layout.tail) + 1;
    rows.panels = panels_for(most) + 1;
    for (auto& head : rows.k) head.assign(static_cast<size_t>(rows.panels * kPanel * layout.dim_k), 0.0f);
    for (auto& head : rows.v) head.assign(static_cast<size_t>(rows.panels * kPanel * layout.dim_v), 0.0f);
    for (auto& head : rows.extra) head.assign(static_cast<size_t>(rows.panels * kPanel * layout.dim_extra), 0.0f);
  }
  if (layout.sinks > 0) {
    rows.sink_k.assign(static_cast<size_t>(layout.heads_kv * layout.dim_k * kPanel), 0.0f);
    rows.sink_v.assign(static_cast<size_t>(layout.heads_kv * layout.sinks * layout.dim_v), 0.0f);
  }
  rows.fold.resize(static_cast<size_t>(layout.heads_kv));
  for (auto& head : rows.fold) head.assign(static_cast<size_t>(folds_at(0) * layout.fold_floats), 0.0f);
}

int64_t LayerState::fold_end(int64_t position) const {
  if (!layout_.bounded()) return 0;
  return std::max<int64_t>(0, position / layout_.block - layout_.lag) * layout_.block;
}

int64_t LayerState::first_row_at(int64_t length) const {
  if (!layout_.bounded()) return 0;
  return std::max<int64_t>(0, std::min(fold_end(length), length - layout_.tail));
}

int64_t LayerState::first_row() const {
  return first_row_at(length_);
}

int64_t LayerState::panel_slot(int64_t position) const {
  const int64_t panel = position / kPanel;
  return layout_.bounded() ? panel % rows_->panels : panel;
}

const float* LayerState::k_panel(int kv_head, int64_t position) const {
  return rows_->k[static_cast<size_t>(kv_head)].data() + panel_slot(position) * kPanel * layout_.dim_k;
}

const float* LayerState::v_row(int kv_head, int64_t position) const {
  return rows_->v[static_cast<size_t>(kv_head)].data() +
         (panel_slot(position) * kPanel + position % kPanel) * layout_.dim_v;
}

int64_t LayerState::v_run(int64_t position) const {
  if (!layout_.bounded()) return length_ - position;
  return std::min(length_ - position, (rows_->panels - panel_slot(position)) * kPanel - position % kPanel);
}

void LayerState::copy_k_row(int kv_head, int64_t position, float* out) const {
  const float* panel = k_panel(kv_head, position) + position % kPanel;
  for (int d = 0; d < layout_.dim_k; ++d) out[d] = panel[d * kPanel];
}

const float* LayerState::extra_row(int kv_head, int64_t position) const {
  return rows_->extra[static_cast<size_t>(kv_head)].data() +
         (panel_slot(position) * kPanel + position % kPanel) * layout_.dim_extra;
}

int64_t LayerState::sinks_held() const {
  return std::min(length_, layout_.sinks);
}

const float* LayerState::sink_k_panel(int kv_head) const {
  return rows_->sink_k.data() + static_cast<int64_t>(kv_head) * layout_.dim_k * kPanel;
}

const float* LayerState::sink_v_row(int kv_head, int64_t position) const {
  return rows_->sink_v.data() + (kv_head * layout_.sinks + position) * layout_.dim_v;
}

const float* LayerState::fold(int kv_head) const {
  return rows_->fold[static_cast<size_t>(kv_head)].data();
}

int64_t LayerState::folds_at(int64_t length) const {
  return layout_.fold_grows ? fold_end(length) / layout_.block : 1;
}

void LayerState::reserve(int64_t rows) {
  Rows& own = rows_.write();
  if (layout_.fold_grows) {
    for (auto& head : own.fold) head.reserve(static_cast<size_t>(folds_at(length_ + rows) * layout_.fold_floats));
  }
  if (layout_.bounded()) return;
  const int64_t needed = panels_for(length_ + rows);
  if (needed <= own.panels) return;
  const int64_t grown =
      (std::max(needed, own.panels + own.panels / 4) + kGrowthPanels - 1) / kGrowthPanels * kGrowthPanels;
  for (auto& head : own.k) head.resize(static_cast<size_t>(grown * kPanel * layout_.dim_k));
  for (auto& head : own.v) head.resize(static_cast<size_t>(grown * kPanel * layout_.dim_v));
  for (auto& head : own.extra) head.resize(static_cast<size_t>(grown * kPanel * layout_.dim_extra));
  own.panels = grown;
}

void LayerState::append(const Kernels& kernels, const Mechanism& mechanism, const float* k, const float* v,
                        const float* extra) {
  reserve(1);  // from here on the rows are this state's alone
  for (int head = 0; head < layout_.heads_kv; ++head) {
    const float* k_head = k + head * layout_.dim_k;
    const float* v_head = v + head * layout_.dim_v;
    float* panel = const_cast<float*>(k_panel(head, length_)) + length_ % kPanel;
    for (int d = 0; d < layout_.dim_k; ++d) panel[d * kPanel] = k_head[d];
    std::copy(v_head, v_head + layout_.dim_v, const_cast<float*>(v_row(head, length_)));
    std::copy_n(extra + head * layout_.dim_extra, layout_.dim_extra, const_cast<float*>(extra_row(head, length_)));
    if (length_ < layout_.sinks) {
      float* sink = const_cast<float*>(sink_k_panel(head)) + length_;
      for (int d = 0; d < layout_.dim_k; ++d) sink[d * kPanel] = k_head[d];
      std::copy(v_head, v_head + layout_.dim_v, const_cast<float*>(sink_v_row(head, length_)));
    }
  }
  const int64_t folded = fold_end();
  ++length_;
  if (layout_.fold_floats == 0 || fold_end() == folded) return;
  const int64_t begin = std::min(fold_end(), std::max(folded, layout_.unfolded())), count = fold_end() - begin;
  std::vector<float> k_rows(static_cast<size_t>(count * layout_.dim_k));
  std::vector<float> v_rows(static_cast<size_t>(count * layout_.dim_v));
  std::vector<float> extra_rows(static_cast<size_t>(count * layout_.dim_extra));
  for (int head = 0; head < layout_.heads_kv; ++head) {
    for (int64_t row = 0; row < count; ++row) {
      copy_k_row(head, begin + row, k_rows.data() + row * layout_.dim_k);
      std::copy_n(v_row(head, begin + row), layout_.dim_v, v_rows.data() + row * layout_.dim_v);
      std::copy_n(extra_row(head, begin + row), layout_.dim_extra, extra_rows.data() + row * layout_.dim_extra);
    }
    std::vector<float>& fold = rows_.write().fold[static_cast<size_t>(head)];
    fold.resize(static_cast<size_t>(folds_at(length_) * layout_.fold_floats), 0.0f);
    float* last = fold.data() + (folds_at(length_) - 1) * layout_.fold_floats;
    mechanism.fold_rows(kernels, head,
                        {begin, count, k_rows.data(), v_rows.data(), extra_rows.data(), layout_.dim_k, layout_.dim_v,
                         layout_.dim_extra},
                        last, last);
  }
}

int64_t LayerState::bytes() const {
  size_t floats = rows_->sink_k.size() + rows_->sink_v.size();
  for (const auto& head : rows_->fold) floats += head.size();
  for (const auto& head : rows_->k) floats += head.size();
  for (const auto& head : rows_->v) floats += head.size();
  for (const auto& head : rows_->extra) floats += head.size();
  return static_cast<int64_t>(floats * sizeof(float) + sizeof(length_));
}

void LayerState::serialize(std::string& out) const {
  append_bytes(out, &length_, sizeof(length_));
  for (const auto& head : rows_->fold) append_bytes(out, head.data(), head.size() * sizeof(float));
  std::vector<float> k_row(static_cast<size_t>(layout_.dim_k));
  for (int head = 0; head < layout_.heads_kv; ++head) {
    for (int64_t position = 0; position < sinks_held(); ++position) {
      const float* panel = sink_k_panel(head) + position;
      for (int d = 0; d < layout_.dim_k; ++d) append_bytes(out, panel + d * kPanel, sizeof(float));
      append_bytes(out, sink_v_row(head, position), static_cast<size_t>(layout_.dim_v) * sizeof(float));
    }
    for (int64_t position = first_row(); position < length_; ++position) {
      copy_k_row(head, position, k_row.data());
      append_bytes(out, k_row.data(), k_row.size() * sizeof(float));
      append_bytes(out, v_row(head, position), static_cast<size_t>(layout_.dim_v) * sizeof(float));
      append_bytes(out, extra_row(head, position), static_cast<size_t>(layout_.dim_extra) * sizeof(float));
    }
  }
}

LayerState LayerState::deserialize(const StateLayout& layout, std::string_view& in, const std::string& where) {
  LayerState state(layout);
  int64_t length = 0;
  take_bytes(in, &length, sizeof(length), where);
  if (length < 0 || length > kMaxLength) {
    throw CorruptFile(error_text(where, "a length in [0, 2^40]", std::to_string(length)));
  }
  const int64_t first = state.first_row_at(length);
  const int64_t row_bytes = static_cast<int64_t>(sizeof(float)) * (layout.dim_k + layout.dim_v);  // sinks have no more
  const int64_t rows = length - first + std::min(length, layout.sinks);
  if (rows > static_cast<int64_t>(in.size()) / std::max<int64_t>(1, row_bytes * layout.heads_kv)) {
    throw CorruptFile(error_text(where, std::to_string(rows) + " rows", std::to_string(in.size()) + " bytes"));
  }
  state.length_ = first;
  state.reserve(length - first);
  state.length_ = length;
  const int64_t fold_floats = state.folds_at(length) * layout.fold_floats;
  if (fold_floats * layout.heads_kv > static_cast<int64_t>(in.size() / sizeof(float))) {
    throw CorruptFile(
        error_text(where, std::to_string(fold_floats) + " numbers of a fold", std::to_string(in.size()) + " bytes"));
  }
  for (auto& head : state.rows_.write().fold) {
    head.resize(static_cast<size_t>(fold_floats));
    take_bytes(in, head.data(), head.size() * sizeof(float), where);
  }
  std::vector<float> k_row(static_cast<size_t>(layout.dim_k));
  const size_t v_bytes = static_cast<size_t>(layout.dim_v) * sizeof(float);
  for (int head = 0; head < layout.heads_kv; ++head) {
    for (int64_t position = 0; position < state.sinks_held(); ++position) {
      take_bytes(in, k_row.data(), k_row.size() * sizeof(float), where);
      float* panel = const_cast<float*>(state.sink_k_panel(head)) + position;
      for (int d = 0; d < layout.dim_k; ++d) panel[d * kPanel] = k_row[static_cast<size_t>(d)];
      take_bytes(in, const_cast<float*>(state.sink_v_row(head, position)), v_bytes, where);
    }
    for (int64_t position = first; position < length; ++position) {
      take_bytes(in, k_row.data(), k_row.size() * sizeof(float), where);
      float* panel = const_cast<float*>(state.k_panel(head, position)) + position % kPanel;
      for (int d = 0; d < layout.dim_k; ++d) panel[d * kPanel] = k_row[static_cast<size_t>(d)];
      take_bytes(in, const_cast<float*>(state.v_row(head, position)), v_bytes, where);
      take_bytes(in, const_cast<float*>(state.extra_row(head, position)),
                 static_cast<size_t>(layout.dim_extra) * sizeof(float), where);
    }
  }
  return state;
}

}  // namespace espalier
