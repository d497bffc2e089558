// The order in which training takes its data.
#pragma once

#include <cstdint>
#include <vector>

namespace espalier {

// Elements [first, first + count) of an endless stream that goes over `all` again and again, shuffled anew each time.
std::vector<int64_t> shuffled(const std::vector<int64_t>& all, uint64_t seed, int64_t first, int64_t count);

}  // namespace espalier
