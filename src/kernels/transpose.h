// Four rows of four floats, turned.
#pragma once

#include <cstdint>

namespace espalier {

// out [4][4] = the transpose of x [4][4]; rows x_stride and out_stride floats apart.
[[gnu::always_inline]] inline void transpose_4x4(const float* x, int64_t x_stride, float* out, int64_t out_stride) {
  using Four = float __attribute__((vector_size(16), aligned(4), may_alias));
  Four row[4], pair[4];
  for (int i = 0; i < 4; ++i) row[i] = *reinterpret_cast<const Four*>(x + i * x_stride);
  pair[0] = __builtin_shufflevector(row[0], row[1], 0, 4, 1, 5);
  pair[1] = __builtin_shufflevector(row[2], row[3], 0, 4, 1, 5);
  pair[2] = __builtin_shufflevector(row[0], row[1], 2, 6, 3, 7);
  pair[3] = __builtin_shufflevector(row[2], row[3], 2, 6, 3, 7);
  for (int i = 0; i < 2; ++i) {
    float* to = out + 2 * i * out_stride;
    *reinterpret_cast<Four*>(to) = __builtin_shufflevector(pair[2 * i], pair[2 * i + 1], 0, 1, 4, 5);
    *reinterpret_cast<Four*>(to + out_stride) = __builtin_shufflevector(pair[2 * i], pair[2 * i + 1], 2, 3, 6, 7);
  }
}

}  // namespace espalier
