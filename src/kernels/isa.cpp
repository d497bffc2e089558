#include <array>

#include "core/error.h"
#include "kernels/kernels.h"
#include "kernels/tables.h"

namespace espalier {
namespace {

Kernels assemble(Isa isa) {
  Kernels kernels{};
  kernels.isa = isa;
  fill_gemm(isa, kernels);
  if (isa >= Isa::kAvx2) fill_gemm_int_pairs(kernels);
#ifdef ESPALIER_X86_KERNELS
  if (isa >= Isa::kAvx512 && __builtin_cpu_supports("avx512vnni")) fill_gemm_int_dot(kernels);
#endif
  if (isa >= Isa::kAvx512Bf16) fill_gemm_dot(kernels);
  if (isa == Isa::kAmx) fill_gemm_amx(kernels);
  fill_rows(isa, kernels);
  fill_attention(isa, kernels);
  return kernels;
}

bool supported(Isa isa) {
  switch (isa) {
    case Isa::kScalar:
      return true;
#ifdef ESPALIER_X86_KERNELS
    case Isa::kAvx2:
      // Whoever has AVX2 has F16C, which clang 14 cannot ask for.
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
    case Isa::kAmx:
      return supported(Isa::kAvx512Bf16) && has_amx();
    case Isa::kAvx512Bf16:
      return supported(Isa::kAvx512) && __builtin_cpu_supports("avx512bf16");
    case Isa::kAvx512:
      return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
             __builtin_cpu_supports("avx512cd");
#endif
    default:
      return false;
  }
}

}  // namespace

bool prefetches_into_second_level() {
#ifdef ESPALIER_X86_KERNELS
  return __builtin_cpu_is("amd");
#else
  return false;
#endif
}

std::vector<Isa> supported_isas() {
  std::vector<Isa> all;
  for (const Isa isa : {Isa::kScalar, Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Bf16, Isa::kAmx}) {
    if (supported(isa)) all.push_back(isa);
  }
  return all;
}

std::string_view isa_name(Isa isa) {
  switch (isa) {
    case Isa::kScalar:
      return "scalar";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvx512:
      return "avx512";
    case Isa::kAvx512Bf16:
      return "avx512-bf16";
    case Isa::kAmx:
      return "amx";
  }
  return "unknown";
}

Isa isa_by_name(std::string_view name) {
  std::string known;
  for (const Isa isa : supported_isas()) {
    if (isa_name(isa) == name) return isa;
    known += (known.empty() ? "" : ", ") + std::string(isa_name(isa));
  }
  throw InvalidArgument(
      error_text("kernels", "an instruction set of this processor: " + known, "'" + std::string(name) + "'"));
}

const Kernels& kernels_for(Isa isa) {
  if (!supported(isa)) {
    throw NotSupported(error_text("kernels", "a processor with " + std::string(isa_name(isa)), "one without"));
  }
  static const auto tables = [] {
    std::array<Kernels, 5> all{};
    for (const Isa each : supported_isas()) all[static_cast<size_t>(each)] = assemble(each);
    return all;
  }();
  return tables[static_cast<size_t>(isa)];
}

const Kernels& best_kernels() {
  return kernels_for(supported_isas().back());
}

}  // namespace espalier
