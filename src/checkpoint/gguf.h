// GGUF files, versions 2 and 3 (docs/formats/gguf.md): typed metadata and tensors.
//
// The file is hostile until checked: every count, length and offset is compared with what the file can hold before
// anything is allocated for it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "checkpoint/model_files.h"
#include "checkpoint/tensor_source.h"
#include "core/file.h"

namespace espalier {

// A metadata value; numbers are widened, arrays are flat and of one kind.
using GgufValue = std::variant<int64_t, double, bool, std::string, std::vector<int64_t>, std::vector<double>,
                               std::vector<std::string>>;

class GgufFile {
 public:
  // Throws InvalidArgument (no such file) or CorruptFile naming the field.
  explicit GgufFile(const std::filesystem::path& path);

  struct Tensor {
    TensorInfo info;
    uint32_t type;  // ggml's number
    const std::byte* data;
    size_t bytes;
  };

  const std::string& name() const { return name_; }
  std::span<const std::byte> bytes() const { return file_.bytes(); }
  const std::map<std::string, Tensor, std::less<>>& tensors() const { return tensors_; }
  // Null when absent.
  const GgufValue* find(std::string_view key) const;
  // The value of that kind, or `fallback` when absent. Throws CorruptFile when it is of another kind.
  int64_t integer(std::string_view key, int64_t fallback) const;
  double number(std::string_view key, double fallback) const;
  bool flag(std::string_view key, bool fallback) const;
  std::string text(std::string_view key, const std::string& fallback) const;
  template <class T>
  std::vector<T> list(std::string_view key) const;
  // Throws CorruptFile when absent.
  const GgufValue& required(std::string_view key) const;

 private:
  class Reader;

  std::string name_;
  MappedFile file_;
  std::map<std::string, GgufValue, std::less<>> metadata_;
  std::map<std::string, Tensor, std::less<>> tensors_;
};

// Everything that a model needs from a GGUF file. Throws NotSupported naming architecture, tensor type or
// pre-tokenizer.
ModelFiles open_gguf(const std::filesystem::path& path);

}  // namespace espalier
