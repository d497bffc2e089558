#include "core/activation.h"

#include <string>
#include <utility>

#include "core/error.h"

namespace espalier {

Activation activation_by_name(std::string_view name, std::string_view where) {
  static constexpr std::pair<std::string_view, Activation> kNames[] = {
      {"silu", Activation::kSilu},          {"swish", Activation::kSilu},
      {"gelu", Activation::kGelu},          {"gelu_new", Activation::kGeluTanh},
      {"gelu_fast", Activation::kGeluTanh}, {"gelu_pytorch_tanh", Activation::kGeluTanh},
      {"relu", Activation::kRelu},          {"relu2", Activation::kReluSquared},
      {"tanh", Activation::kTanh},          {"laplace", Activation::kLaplace},
      {"sigmoid", Activation::kSigmoid},    {"softplus", Activation::kSoftplus},
  };
  std::string known;
  for (const auto& [own, activation] : kNames) {
    if (own == name) return activation;
    known += (known.empty() ? "" : ", ") + std::string(own);
  }
  throw NotSupported(error_text(std::string(where), "an activation out of " + known, "'" + std::string(name) + "'"));
}

}  // namespace espalier
