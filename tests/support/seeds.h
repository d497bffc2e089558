// Seeds out of the names of cases: each case draws other numbers, the same ones wherever it runs.
#pragma once

#include <cstdint>
#include <string_view>

namespace espalier::testing {

// FNV-1a.
inline uint64_t seed_of(std::string_view name) {
  uint64_t hash = 14695981039346656037u;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211u;
  return hash;
}

}  // namespace espalier::testing
