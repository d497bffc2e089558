// Reads, checks and packs a model's tensors for the step half.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "attention/operator.h"
#include "attention/state/row_tail.h"
#include "checkpoint/model_files.h"
#include "core/error.h"
#include "kernels/packed_matrix.h"

namespace espalier {

// A linear layer: y = x weight^T + bias.
struct StepMatrix {
  PackedMatrix weight;
  std::vector<float> bias;  // [outputs], or empty
};

class StepLoader {
 public:
  // `own`: quantized tensors of the files keep their blocks and scales, where there is such a weight type.
  StepLoader(const TensorSource& tensors, WeightType type, int64_t vocab_size, bool own = false)
      : tensors_(tensors), type_(type), vocab_size_(vocab_size), own_(own) {}

  // Throws CorruptFile naming the tensor when it is missing or has another shape. The weights are there after finish().
  StepMatrix matrix(const std::string& name, int64_t outputs, int64_t inputs, bool bias = false);
  // Reads and packs what matrix() has found, on all processors, some rows at a time.
  void finish();
  bool has(const std::string& name) const { return tensors_.find(name) != nullptr; }
  std::vector<float> relative_bias(const std::string& name, const ModelConfig& config);
  std::vector<float> vector(const std::string& name, int64_t n);

  int64_t bytes() const {  // packed
    ESPALIER_CHECK(waiting_.empty());
    return bytes_;
  }
  // Quantized tensors that could not keep what the files say of them, and became `type`.
  const std::vector<std::string>& converted() const { return converted_; }
  int64_t parameters() const { return parameters_; }

 private:
  // Tables of the vocabulary, which are told by their rows, keep 8 bits where other matrices have 4: an error there
  // meets every token.
  WeightType type_of(const std::string& tensor, int64_t outputs) const;

  struct Waiting {
    std::string tensor;
    PackedMatrix weight;  // shares its memory with the one that the model has
  };

  const TensorSource& tensors_;
  WeightType type_;
  int64_t vocab_size_;
  bool own_;
  std::vector<std::string> converted_;
  std::vector<Waiting> waiting_;
  WeightMemory memory_;
  int64_t bytes_ = 0, parameters_ = 0;
};

// One mechanism per layer, as config.attention names them, with their parameters: read from `tensors`, or at their
// initial values when the checkpoint has none (a zero-training conversion).
std::vector<std::unique_ptr<Mechanism>> load_mechanisms(const ModelConfig& config, const TensorSource& tensors,
                                                        const std::vector<MechanismEntry>& more = {});

// Throws NotSupported for a mechanism that cannot do what the model's layer needs of it.
void check_fits(const ModelConfig& config, const Mechanism& mechanism, int64_t layer);
// The parameters of a layer's mechanism, as parameters() lists them.
std::vector<std::vector<float>> mechanism_parameters(const ModelConfig& config, const TensorSource& tensors,
                                                     int64_t layer, const Mechanism& mechanism);
// What a layer's mechanism is told of it.
AttentionShape attention_shape(const ModelConfig& config, int64_t layer);
// The rows that layers look back on beside their attention: for token shifts and short convolutions.
std::vector<TailShape> tail_shapes(const ModelConfig& config,
                                   const std::vector<std::unique_ptr<Mechanism>>& mechanisms);
// The name that a checkpoint stores a layer's parameter under.
std::string parameter_name(const ModelConfig& config, const ParameterInfo& parameter, int64_t layer);

}  // namespace espalier
