#include "attention/state/row_tail.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"

namespace espalier {

RowTail::RowTail(const TailShape& shape) : shape_(shape), values_(static_cast<size_t>(shape.rows * shape.width)) {}

const float* RowTail::row(int64_t back) const {
  return values_.data() + (shape_.rows - back) * shape_.width;
}

void RowTail::append(const float* row) {
  std::copy(values_.begin() + shape_.width, values_.end(), values_.begin());
  std::copy(row, row + shape_.width, values_.end() - shape_.width);
}

void RowTail::serialize(std::string& out) const {
  out.append(reinterpret_cast<const char*>(values_.data()), static_cast<size_t>(bytes()));
}

RowTail RowTail::deserialize(const TailShape& shape, std::string_view& in, const std::string& where) {
  RowTail tail(shape);
  const size_t bytes = static_cast<size_t>(tail.bytes());
  if (in.size() < bytes) {
    throw CorruptFile(error_text(where, std::to_string(bytes) + " more bytes", std::to_string(in.size())));
  }
  if (bytes > 0) std::memcpy(tail.values_.data(), in.data(), bytes);
  in.remove_prefix(bytes);
  return tail;
}

}  // namespace espalier
