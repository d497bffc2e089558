// Writes small GGUF files (version 3), key by key: what tests vary one thing of at a time.
#pragma once

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace espalier::testing {

struct GgufTestFile {
  using Value = std::variant<uint32_t, int32_t, uint64_t, float, double, bool, std::string, std::vector<std::string>,
                             std::vector<int32_t>, std::vector<float>>;
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
      std::visit([&](const auto& own) { append_value(file, own, true); }, value);
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
  static void append(std::string& to, T value) {
    char bytes[sizeof(T)];
    std::memcpy(bytes, &value, sizeof(T));
    to.append(bytes, sizeof(T));
  }
  static void append(std::string& to, const std::string& text) {
    append(to, static_cast<uint64_t>(text.size()));
    to += text;
  }
  // ggml's number of the kind, then the value.
  static void append_value(std::string& to, uint32_t value, bool kind) { plain(to, 4, value, kind); }
  static void append_value(std::string& to, int32_t value, bool kind) { plain(to, 5, value, kind); }
  static void append_value(std::string& to, uint64_t value, bool kind) { plain(to, 10, value, kind); }
  static void append_value(std::string& to, float value, bool kind) { plain(to, 6, value, kind); }
  static void append_value(std::string& to, double value, bool kind) { plain(to, 12, value, kind); }
  static void append_value(std::string& to, bool value, bool kind) { plain(to, 7, static_cast<uint8_t>(value), kind); }
  static void append_value(std::string& to, const std::string& value, bool kind) { plain(to, 8, value, kind); }
  template <class T>
  static void append_value(std::string& to, const std::vector<T>& list, bool) {
    append(to, uint32_t{9});
    std::string first;
    append_value(first, T(), true);
    to.append(first, 0, 4);
    append(to, static_cast<uint64_t>(list.size()));
    for (const T& value : list) append_value(to, value, false);
  }
  template <class T>
  static void plain(std::string& to, uint32_t number, const T& value, bool kind) {
    if (kind) append(to, number);
    append(to, value);
  }
};

}  // namespace espalier::testing
