#include "checkpoint/tensor_source.h"

#include <algorithm>

#include "core/error.h"

namespace espalier {
namespace {

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

}  // namespace

void TensorSource::read_rows(std::string_view name, int64_t first, int64_t count, float* out) const {
  const TensorInfo* info = find(name);
  std::vector<float> all(static_cast<size_t>(info ? info->elements() : 0));
  read(name, all.data());  // which refuses unknown names
  std::copy_n(all.data() + first * info->columns(), count * info->columns(), out);
}

void TensorSource::check_shape(std::string_view name, const std::vector<int64_t>& shape) const {
  const TensorInfo* info = find(name);
  const std::string place = where() + ": tensor " + std::string(name);
  if (!info) throw CorruptFile(error_text(place, "a tensor of shape " + shape_text(shape), "none"));
  if (info->shape != shape) throw CorruptFile(error_text(place, "shape " + shape_text(shape), shape_text(info->shape)));
}

std::vector<float> TensorSource::read_checked(std::string_view name, const std::vector<int64_t>& shape) const {
  check_shape(name, shape);
  std::vector<float> values(static_cast<size_t>(find(name)->elements()));
  read(name, values.data());
  return values;
}

void MemoryTensorSource::add(std::string name, std::vector<int64_t> shape, std::vector<float> values) {
  TensorInfo info{std::move(shape), "F32"};
  ESPALIER_CHECK(info.elements() == static_cast<int64_t>(values.size()));
  entries_.insert_or_assign(std::move(name), Entry{std::move(info), std::move(values)});
}

std::vector<std::string> MemoryTensorSource::names() const {
  std::vector<std::string> all;
  for (const auto& [name, entry] : entries_) all.push_back(name);
  return all;
}

const TensorInfo* MemoryTensorSource::find(std::string_view name) const {
  const auto it = entries_.find(name);
  return it == entries_.end() ? nullptr : &it->second.info;
}

void MemoryTensorSource::read(std::string_view name, float* out) const {
  const TensorInfo* info = find(name);
  read_rows(name, 0, info ? info->rows() : 0, out);
}

void MemoryTensorSource::read_rows(std::string_view name, int64_t first, int64_t count, float* out) const {
  const auto it = entries_.find(name);
  if (it == entries_.end()) throw InvalidArgument(error_text("memory", "tensor " + std::string(name), "none"));
  const int64_t columns = it->second.info.columns();
  std::copy_n(it->second.values.data() + first * columns, count * columns, out);
}

}  // namespace espalier
