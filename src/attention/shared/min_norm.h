// x^ = x / max(|x|, 1e-6), wherever a definition normalises queries and keys.
#pragma once

namespace espalier {

// The shortest vector that normalisation divides by.
inline constexpr float kMinNorm = 1e-6f;

}  // namespace espalier
