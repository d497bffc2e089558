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
  // Rows of the innermost extent: a matrix's. A vector is one.
  int64_t columns() const { return shape.empty() ? 1 : shape.back(); }
  int64_t rows() const { return columns() > 0 ? elements() / columns() : 0; }
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
  // The same of rows [first, first + count), to out[count * columns()]. Costs no more than these rows do where
  // reads_rows() says so (and the rank-r factors of an adapter, where there are any).
  virtual void read_rows(std::string_view name, int64_t first, int64_t count, float* out) const;
  virtual bool reads_rows(std::string_view) const { return false; }
  // What errors call this source: a file or directory name.
  virtual std::string where() const = 0;

  // Throws CorruptFile naming the tensor and both shapes where it is missing or has another one.
  void check_shape(std::string_view name, const std::vector<int64_t>& shape) const;
  // read() into a new vector, after check_shape().
  std::vector<float> read_checked(std::string_view name, const std::vector<int64_t>& shape) const;
};

// Tensors in memory: tests, freshly made adapters.
class MemoryTensorSource : public TensorSource {
 public:
  void add(std::string name, std::vector<int64_t> shape, std::vector<float> values);
  std::vector<std::string> names() const override;
  const TensorInfo* find(std::string_view name) const override;
  void read(std::string_view name, float* out) const override;
  void read_rows(std::string_view name, int64_t first, int64_t count, float* out) const override;
  bool reads_rows(std::string_view) const override { return true; }
  std::string where() const override { return "memory"; }

 private:
  struct Entry {
    TensorInfo info;
    std::vector<float> values;
  };
  std::map<std::string, Entry, std::less<>> entries_;
};

}  // namespace espalier
