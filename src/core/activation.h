// The activations of MLPs, under the names that config.json gives them.
#pragma once

#include <string_view>

namespace espalier {

enum class Activation {
  kSilu,         // x / (1 + e^-x)
  kGelu,         // x (1 + erf(x / sqrt(2))) / 2
  kGeluTanh,     // x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2
  kRelu,         // max(x, 0)
  kReluSquared,  // max(x, 0)^2
  kTanh,
  kSigmoid,   // 1 / (1 + e^-x)
  kSoftplus,  // log(1 + e^x)
  kLaplace,   // (1 + erf((x - sqrt(1/2)) sqrt(2 pi))) / 2, of attention scores (Ma et al. 2022, Mega)
};

// "silu" or "swish", "gelu", "gelu_new" (also "gelu_fast", "gelu_pytorch_tanh"), "relu", "relu2",
// "tanh", "sigmoid", "softplus", "laplace". Throws NotSupported
// with `where` ("config.json: hidden_act") and these names.
Activation activation_by_name(std::string_view name, std::string_view where);

}  // namespace espalier
