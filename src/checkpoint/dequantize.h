// ggml's tensor types and their conversion to f32 (docs/formats/gguf.md lists the block layouts).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace espalier {

struct TensorType {
  uint32_t number;  // ggml's
  const char* name;
  int64_t block;  // elements of a block
  int64_t block_bytes;
  void (*convert)(const std::byte* blocks, int64_t count, float* out);  // count blocks
};

// Null for a type that is not converted.
const TensorType* find_tensor_type(uint32_t number);
// The type's name, or "type N".
std::string tensor_type_name(uint32_t number);

}  // namespace espalier
