#include "evaluation/weight_errors.h"

#include <cmath>

namespace espalier {

std::vector<WeightError> weight_errors(const TensorSource& tensors, const EvaluationProgress& progress) {
  std::vector<WeightError> errors;
  for (const WeightKind& kind : kWeightKinds) {
    if (kind.type != WeightType::kF32) errors.push_back({.type = kind.type});  // which loses nothing
  }
  std::vector<double> lost(errors.size(), 0.0);
  double size = 0;
  const std::vector<std::string> names = tensors.names();
  for (size_t n = 0; n < names.size(); ++n) {
    const TensorInfo& info = *tensors.find(names[n]);
    if (progress) progress(static_cast<int64_t>(n) + 1, static_cast<int64_t>(names.size()));
    if (info.shape.size() != 2 || info.type.starts_with("I")) continue;  // a table of numbers is no matrix
    const int64_t outputs = info.shape[0], inputs = info.shape[1];
    const std::vector<float> weights = tensors.read_checked(names[n], info.shape);
    double own = 0;
    for (const float weight : weights) own += double{weight} * weight;
    size += own;
    std::vector<float> row(static_cast<size_t>(inputs));
    for (size_t i = 0; i < errors.size(); ++i) {
      WeightMemory memory;
      const PackedMatrix packed(weights.data(), outputs, inputs, errors[i].type, memory);
      double error = 0;
      for (int64_t o = 0; o < outputs; ++o) {
        packed.row(o, row.data());
        for (int64_t k = 0; k < inputs; ++k) {
          const double difference = double{row[static_cast<size_t>(k)]} - weights[static_cast<size_t>(o * inputs + k)];
          error += difference * difference;
        }
      }
      errors[i].bytes += packed.bytes();
      lost[i] += error;
      const double relative = own > 0 ? std::sqrt(error / own) : 0.0;
      if (relative > errors[i].worst) errors[i].worst = relative, errors[i].worst_name = names[n];
    }
  }
  for (size_t i = 0; i < errors.size(); ++i) errors[i].relative = size > 0 ? std::sqrt(lost[i] / size) : 0.0;
  return errors;
}

}  // namespace espalier
