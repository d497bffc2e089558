// The last rows of something that a layer makes of each token: what a short convolution or a token shift looks back on.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace espalier {

// What is kept: the input of a layer's projections, or its q, k or v.
enum class TailSite { kInput, kQuery, kKey, kValue };

struct TailShape {
  int64_t layer = 0;
  TailSite site = TailSite::kInput;
  int64_t rows = 0, width = 0;
  bool operator==(const TailShape&) const = default;
};

// A value: copying it forks the sequence. Before the text all rows are zero.
class RowTail {
 public:
  explicit RowTail(const TailShape& shape);

  const TailShape& shape() const { return shape_; }
  // The row `back` before the next one, 1 <= back <= rows: [width].
  const float* row(int64_t back) const;
  void append(const float* row);

  int64_t bytes() const { return static_cast<int64_t>(values_.size() * sizeof(float)); }
  void serialize(std::string& out) const;
  // The inverse; consumes from `in`. Throws CorruptFile when there are too few bytes.
  static RowTail deserialize(const TailShape& shape, std::string_view& in, const std::string& where);

 private:
  TailShape shape_;
  std::vector<float> values_;  // [rows][width], oldest first
};

}  // namespace espalier
