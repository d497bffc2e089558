// Counter-based random numbers: a pure function of (seed, stream, counter), no hidden state.
//
// Sampling uses stream = sequence number and counter = position, so a token's draw does not depend on
// how many other tokens, drafts or sequences were processed (ARCHITECTURE.md, "Exactness").
#pragma once

#include <cstdint>

namespace espalier {

// SplitMix64's output function over a mix of the three words (Steele, Lea, Flood 2014).
constexpr uint64_t random_bits(uint64_t seed, uint64_t stream, uint64_t counter) {
  auto mix = [](uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
  };
  uint64_t z = mix(seed + 0x9e3779b97f4a7c15ull);
  z = mix(z ^ (stream + 0x9e3779b97f4a7c15ull));
  return mix(z + (counter + 1) * 0x9e3779b97f4a7c15ull);
}

// Uniform in [0, 1) with 53 random bits.
constexpr double random_uniform(uint64_t seed, uint64_t stream, uint64_t counter) {
  return static_cast<double>(random_bits(seed, stream, counter) >> 11) * 0x1.0p-53;
}

// A sequence of numbers for tests, initialisation and shuffles.
class Random {
 public:
  explicit Random(uint64_t seed, uint64_t stream = 0) : seed_(seed), stream_(stream) {}

  uint64_t bits() { return random_bits(seed_, stream_, counter_++); }
  double uniform() { return random_uniform(seed_, stream_, counter_++); }
  float uniform(float low, float high) { return low + (high - low) * static_cast<float>(uniform()); }
  // Uniform in [0, n); n >= 1.
  int64_t below(int64_t n) { return static_cast<int64_t>(uniform() * static_cast<double>(n)); }
  // Standard normal (Box-Muller, one of the pair).
  float normal();

 private:
  uint64_t seed_, stream_, counter_ = 0;
};

}  // namespace espalier
