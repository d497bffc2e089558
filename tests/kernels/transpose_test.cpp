// Every shape up to some, wherever in memory it lies: nothing is aligned, nothing beside the result is written.
#include "kernels/transpose.h"

#include <gtest/gtest.h>

#include <bit>
#include <vector>

namespace espalier {
namespace {

TEST(Transpose, EqualsALoopAtAnyAlignment) {
  for (int64_t rows = 0; rows <= 17; ++rows) {
    for (int64_t columns = 0; columns <= 9; ++columns) {
      for (int64_t offset = 0; offset < 4; ++offset) {
        const int64_t x_stride = columns + offset, out_stride = rows + 3 - offset;
        std::vector<float> x(static_cast<size_t>(offset + rows * x_stride));
        // Bits of all kinds, NaNs too: elements are moved, not computed with.
        for (size_t i = 0; i < x.size(); ++i) x[i] = std::bit_cast<float>(0x9e3779b9u * static_cast<uint32_t>(i + 1));
        std::vector<float> out(static_cast<size_t>(offset + columns * out_stride + 1), 77.0f), expected = out;
        for (int64_t r = 0; r < rows; ++r) {
          for (int64_t c = 0; c < columns; ++c) expected[offset + c * out_stride + r] = x[offset + r * x_stride + c];
        }
        transpose(x.data() + offset, x_stride, rows, columns, out.data() + offset, out_stride);
        for (size_t i = 0; i < out.size(); ++i) {
          ASSERT_EQ(std::bit_cast<uint32_t>(out[i]), std::bit_cast<uint32_t>(expected[i])) << rows << " x " << columns;
        }
      }
    }
  }
}

}  // namespace
}  // namespace espalier
