// Matrices of 32-bit elements in memory, turned, four by four at a time: floats, or what stands in their place.
#pragma once

#include <cstdint>
#include <cstring>

namespace espalier {

// out [4][4] = the transpose of x [4][4]; rows x_stride and out_stride floats apart. Nothing need be aligned.
[[gnu::always_inline]] inline void transpose_4x4(const float* x, int64_t x_stride, float* out, int64_t out_stride) {
  using Four = float __attribute__((vector_size(16)));
  Four row[4], pair[4], column[4];
  for (int i = 0; i < 4; ++i) std::memcpy(&row[i], x + i * x_stride, sizeof(Four));
  pair[0] = __builtin_shufflevector(row[0], row[1], 0, 4, 1, 5);
  pair[1] = __builtin_shufflevector(row[2], row[3], 0, 4, 1, 5);
  pair[2] = __builtin_shufflevector(row[0], row[1], 2, 6, 3, 7);
  pair[3] = __builtin_shufflevector(row[2], row[3], 2, 6, 3, 7);
  for (int i = 0; i < 2; ++i) {
    column[2 * i] = __builtin_shufflevector(pair[2 * i], pair[2 * i + 1], 0, 1, 4, 5);
    column[2 * i + 1] = __builtin_shufflevector(pair[2 * i], pair[2 * i + 1], 2, 3, 6, 7);
  }
  for (int i = 0; i < 4; ++i) std::memcpy(out + i * out_stride, &column[i], sizeof(Four));
}

// out [columns][rows], rows out_stride floats apart = the transpose of x [rows][columns].
[[gnu::always_inline]] inline void transpose(const float* x, int64_t x_stride, int64_t rows, int64_t columns,
                                             float* out, int64_t out_stride) {
  const int64_t fours = columns / 4 * 4, whole_rows = rows / 4 * 4;
  for (int64_t r = 0; r < whole_rows; r += 4) {
    for (int64_t c = 0; c < fours; c += 4) {
      transpose_4x4(x + r * x_stride + c, x_stride, out + c * out_stride + r, out_stride);
    }
  }
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = r < whole_rows ? fours : 0; c < columns; ++c) {
      std::memcpy(out + c * out_stride + r, x + r * x_stride + c, sizeof(float));
    }
  }
}

}  // namespace espalier
