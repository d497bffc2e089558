// What storing a model's matrices in fewer bits does to them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "checkpoint/tensor_source.h"
#include "evaluation/windows.h"
#include "kernels/packed_matrix.h"

namespace espalier {

struct WeightError {
  WeightType type;
  int64_t bytes = 0;    // of all matrices
  double relative = 0;  // |stored - w| / |w| over all matrices
  double worst = 0;     // the same of the worst matrix,
  std::string worst_name;
};

// Of all tensors with two extents, each for bf16 and the quantized types. Reads them all.
std::vector<WeightError> weight_errors(const TensorSource& tensors, const EvaluationProgress& progress = {});

}  // namespace espalier
