// Where a model's tensors come from: a GGUF file, safetensors shards, memory, or one of them with an
// adapter on top. Names and row order are Hugging Face's ("model.layers.0.self_attn.q_proj.weight");
// a GGUF source translates its own names and undoes its permutation of q and k rows.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace espalier {

struct TensorInfo {
  std::vector<int64_t> shape;  // row-major, outermost first: a linear layer is {out, in}
  std::string type;            // the stored type as the file names it ("F32", "BF16", "Q4_1")

  int64_t elements() const {
    int64_t n = 1;
    for (int64_t extent : shape) n *= extent;
    return n;
  }
};

class TensorSource {
 public:
  virtual ~TensorSource() = default;

  // All names, sorted.
  virtual std::vector<std::string> names() const = 0;
  // Null when there is no such tensor. The pointer lives as long as the source.
  virtual const TensorInfo* find(std::string_view name) const = 0;
  // Writes all elements, dequantized, to out[elements()]. Throws InvalidArgument for an unknown name,
  // NotSupported for a type that cannot be converted. Thread-safe.
  virtual void read(std::string_view name, float* out) const = 0;
  // What errors call this source: a file or directory name.
  virtual std::string where() const = 0;

  // read() into a new vector, after checking the shape. Throws CorruptFile naming tensor and both shapes.
  std::vector<float> read_checked(std::string_view name, const std::vector<int64_t>& shape) const;
};

// Tensors in memory: tests, freshly made adapters.
class MemoryTensorSource : public TensorSource {
 public:
  void add(std::string name, std::vector<int64_t> shape, std::vector<float> values);
  std::vector<std::string> names() const override;
  const TensorInfo* find(std::string_view name) const override;
  void read(std::string_view name, float* out) const override;
  std::string where() const override { return "memory"; }

 private:
  struct Entry {
    TensorInfo info;
    std::vector<float> values;
  };
  std::map<std::string, Entry, std::less<>> entries_;
};

}  // namespace espalier
