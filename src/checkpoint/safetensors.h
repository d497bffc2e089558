// safetensors files (docs/formats/safetensors.md): a JSON header and raw little-endian tensors.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/tensor_source.h"
#include "core/file.h"

namespace espalier {

// One file, or several shards as one. F64, F32, F16, BF16 and the integers are read as f32.
class SafetensorsSource : public TensorSource {
 public:
  // Throws InvalidArgument (no such file) or CorruptFile: header beyond the file, malformed JSON, shapes that do not
  // fit their bytes, offsets outside, overlaps, holes, bytes behind the last tensor, a name twice.
  explicit SafetensorsSource(const std::vector<std::filesystem::path>& shards);

  std::vector<std::string> names() const override;
  const TensorInfo* find(std::string_view name) const override;
  void read(std::string_view name, float* out) const override;
  void read_rows(std::string_view name, int64_t first, int64_t count, float* out) const override;
  bool reads_rows(std::string_view) const override { return true; }
  std::string where() const override { return where_; }
  // The header's "__metadata__" of all shards.
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

 private:
  struct Entry {
    TensorInfo info;
    const std::byte* data;
  };
  void add_shard(const std::filesystem::path& path);

  std::string where_;
  std::vector<MappedFile> files_;
  std::map<std::string, Entry, std::less<>> entries_;
  std::map<std::string, std::string> metadata_;
};

enum class StoredType { kF32, kBf16 };

struct TensorToWrite {
  std::string name;
  std::vector<int64_t> shape;
  const float* values = nullptr;
  StoredType type = StoredType::kF32;
  std::function<void(float* out)> read = {};  // instead of values: fills them when the tensor's turn comes
};

// Replaces the file as a whole (core/file.h).
void write_safetensors(const std::filesystem::path& path, const std::vector<TensorToWrite>& tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace espalier
