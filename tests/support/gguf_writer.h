// Writes small GGUF files (version 3), key by key: what tests vary one thing of at a time.
#pragma once

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

namespace espalier::testing {

struct GgufTestFile {
  using Value =
      std::variant<uint8_t, int8_t, uint16_t, int16_t, uint32_t, int32_t, float, bool, std::string, uint64_t, int64_t,
                   double, std::vector<std::string>, std::vector<int32_t>, std::vector<float>, std::vector<double>,
                   std::vector<uint8_t>, std::vector<int8_t>, std::vector<uint64_t>, std::vector<std::vector<int32_t>>>;
  struct Tensor {
    std::vector<int64_t> shape;  // outermost first
    std::vector<float> values;   // of f32, or
    uint32_t type = 0;           // ggml's number, and
    std::string bytes;           // of another type
  };

  std::map<std::string, Value> values;
  std::map<std::string, Tensor> tensors;

  void write(const std::filesystem::path& path) const {
    std::string file = "GGUF";
    append(file, uint32_t{3});
    append(file, static_cast<uint64_t>(tensors.size()));
    append(file, static_cast<uint64_t>(values.size()));
    for (const auto& [key, value] : values) {
      append(file, key);
      append(file, std::visit([]<class T>(const T&) { return kKind<T>; }, value));
      std::visit([&](const auto& own) { append(file, own); }, value);
    }
    std::string data;
    for (const auto& [name, tensor] : tensors) {
      append(file, name);
      append(file, static_cast<uint32_t>(tensor.shape.size()));
      for (auto extent = tensor.shape.rbegin(); extent != tensor.shape.rend(); ++extent) {
        append(file, static_cast<uint64_t>(*extent));
      }
      append(file, tensor.type);
      append(file, static_cast<uint64_t>(data.size()));
      data += tensor.bytes;
      for (const float value : tensor.values) append(data, value);
      data.resize((data.size() + kAlignment - 1) / kAlignment * kAlignment);
    }
    file.resize((file.size() + kAlignment - 1) / kAlignment * kAlignment);
    std::ofstream(path, std::ios::binary) << file << data;
  }

 private:
  static constexpr size_t kAlignment = 32;

  template <class T>
  requires std::is_arithmetic_v<T>
  static void append(std::string& to, T value) {
    char bytes[sizeof(T)];
    std::memcpy(bytes, &value, sizeof(T));
    to.append(bytes, sizeof(T));
  }
  static void append(std::string& to, const std::string& text) {
    append(to, static_cast<uint64_t>(text.size()));
    to += text;
  }
  template <class T>
  static constexpr uint32_t kKind = [] {
    if (std::is_same_v<T, uint8_t>) return 0u;
    if (std::is_same_v<T, int8_t>) return 1u;
    if (std::is_same_v<T, uint16_t>) return 2u;
    if (std::is_same_v<T, int16_t>) return 3u;
    if (std::is_same_v<T, uint32_t>) return 4u;
    if (std::is_same_v<T, int32_t>) return 5u;
    if (std::is_same_v<T, float>) return 6u;
    if (std::is_same_v<T, bool>) return 7u;
    if (std::is_same_v<T, std::string>) return 8u;
    if (std::is_same_v<T, uint64_t>) return 10u;
    if (std::is_same_v<T, int64_t>) return 11u;
    if (std::is_same_v<T, double>) return 12u;
    return 9u;  // an array
  }();
  template <class T>
  static void append(std::string& to, const std::vector<T>& list) {
    append(to, kKind<T>);
    append(to, static_cast<uint64_t>(list.size()));
    for (const T& value : list) append(to, value);
  }
};

}  // namespace espalier::testing
