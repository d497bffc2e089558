// The greatest of many numbers without a sort.
#pragma once

#include <cstdint>
#include <vector>

namespace espalier {

// max over x [n], NaN ignored; -inf when there is none.
float greatest(const float* x, int64_t n);

// `ids` = the indices of the `count` greatest of x [n], greatest first, ties to the lowest index. NaN is never
// selected, so fewer may come back.
void select_greatest(const float* x, int64_t n, int64_t count, std::vector<int32_t>& ids);

}  // namespace espalier
