#include "checkpoint/tensor_views.h"

#include <algorithm>

#include "core/error.h"

namespace espalier {

TensorViews::TensorViews(std::shared_ptr<const TensorSource> base, const std::map<std::string, TensorView>& views)
    : base_(std::move(base)) {
  for (const auto& [name, view] : views) {
    const TensorInfo* stored = base_->find(view.stored);
    if (!stored) continue;
    TensorInfo info = *stored;
    if (!view.order.empty()) {
      const int64_t elements = info.elements();
      info.shape = view.shape;
      const auto fits = [pieces = view.pieces](int64_t index) { return index >= 0 && index < pieces; };
      if (view.pieces < 1 || elements % view.pieces != 0 || !std::all_of(view.order.begin(), view.order.end(), fits) ||
          info.elements() != elements / view.pieces * static_cast<int64_t>(view.order.size())) {
        throw CorruptFile(error_text(base_->where() + ": tensor " + view.stored,
                                     std::to_string(view.pieces) + " pieces of a size", std::to_string(elements)));
      }
      entries_[name] = {view, info};
      viewed_[view.stored] = 1;
      continue;
    }
    if (view.transposed && info.shape.size() == 2) std::swap(info.shape[0], info.shape[1]);
    if ((view.transposed && info.shape.size() != 2) || info.shape.empty() || info.shape[0] % view.parts != 0) {
      throw CorruptFile(error_text(base_->where() + ": tensor " + view.stored,
                                   std::string(view.transposed ? "a matrix" : "a vector or matrix") + " in " +
                                       std::to_string(view.parts) + " equal parts",
                                   std::to_string(info.shape.empty() ? 0 : info.shape[0])));
    }
    info.shape[0] /= view.parts;
    entries_[name] = {view, info};
    viewed_[view.stored] = 1;
  }
}

std::vector<std::string> TensorViews::names() const {
  std::vector<std::string> all;
  for (const std::string& name : base_->names()) {
    if (!viewed_.contains(name)) all.push_back(name);
  }
  for (const auto& [name, entry] : entries_) all.push_back(name);
  std::sort(all.begin(), all.end());
  return all;
}

const TensorInfo* TensorViews::find(std::string_view name) const {
  const auto entry = entries_.find(name);
  if (entry != entries_.end()) return &entry->second.info;
  return viewed_.contains(name) ? nullptr : base_->find(name);
}

const TensorView* TensorViews::view(std::string_view name) const {
  const auto entry = entries_.find(name);
  return entry == entries_.end() ? nullptr : &entry->second.view;
}

void TensorViews::read_stored(const std::string& stored, const TensorSource& presented, float* out) const {
  std::fill_n(out, base_->find(stored)->elements(), 0.0f);
  for (const auto& [name, entry] : entries_) {
    const TensorView& view = entry.view;
    if (view.stored != stored) continue;
    const std::vector<float> values = presented.read_checked(name, entry.info.shape);
    const int64_t own = static_cast<int64_t>(values.size());
    if (!view.order.empty()) {
      const int64_t piece = own / static_cast<int64_t>(view.order.size());
      for (size_t i = 0; i < view.order.size(); ++i) {
        std::copy_n(values.data() + static_cast<int64_t>(i) * piece, piece, out + view.order[i] * piece);
      }
    } else if (!view.transposed) {
      std::copy_n(values.data(), own, out + view.part * own);
    } else {
      const int64_t outputs = entry.info.shape[0], inputs = entry.info.shape[1];
      for (int64_t i = 0; i < inputs; ++i) {
        for (int64_t o = 0; o < outputs; ++o) out[(i * view.parts + view.part) * outputs + o] = values[o * inputs + i];
      }
    }
  }
}

void TensorViews::check_shown(std::string_view name) const {
  if (!find(name)) throw InvalidArgument(error_text(where(), "tensor " + std::string(name), "none"));
}

void TensorViews::read_rows(std::string_view name, int64_t first, int64_t count, float* out) const {
  if (entries_.contains(name)) return TensorSource::read_rows(name, first, count, out);
  check_shown(name);
  base_->read_rows(name, first, count, out);
}

void TensorViews::read(std::string_view name, float* out) const {
  const auto entry = entries_.find(name);
  if (entry == entries_.end()) {
    check_shown(name);
    return base_->read(name, out);
  }
  const TensorView& view = entry->second.view;
  if (!view.order.empty()) {
    std::vector<float> all(static_cast<size_t>(base_->find(view.stored)->elements()));
    base_->read(view.stored, all.data());
    const int64_t piece = static_cast<int64_t>(all.size()) / view.pieces;
    for (const int64_t index : view.order) out = std::copy_n(all.data() + index * piece, piece, out);
    return;
  }
  const int64_t own = entry->second.info.elements(), outputs = entry->second.info.shape[0];
  std::vector<float> all(static_cast<size_t>(own * view.parts));
  base_->read(view.stored, all.data());
  if (!view.transposed) {
    std::copy_n(all.data() + view.part * own, own, out);
    return;
  }
  const int64_t inputs = own / std::max<int64_t>(1, outputs);
  for (int64_t i = 0; i < inputs; ++i) {
    for (int64_t o = 0; o < outputs; ++o) out[o * inputs + i] = all[(i * view.parts + view.part) * outputs + o];
  }
}

}  // namespace espalier
