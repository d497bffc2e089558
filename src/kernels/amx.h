// AMX's registers and instructions. Eight registers of up to 16 rows x 64 bytes; a thread sets their shapes, uses them
// and gives them back within one tile of a product.
#pragma once

#if defined(__x86_64__) && defined(__linux__)
#include <cstdint>

namespace espalier::amx {

inline constexpr int64_t kRows = 16;  // of a register
inline constexpr int64_t kRowBytes = 64;

// What ldtilecfg reads.
struct Shapes {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};

  void set(int reg, int64_t row_count, int64_t bytes = kRowBytes) {
    rows[reg] = static_cast<uint8_t>(row_count);
    row_bytes[reg] = static_cast<uint16_t>(row_count > 0 ? bytes : 0);
  }
};

// The registers of these shapes, as long as it lives: those in use are saved at each switch of threads.
class Registers {
 public:
  explicit Registers(const Shapes& shapes) { asm volatile("ldtilecfg %0" : : "m"(shapes)); }
  ~Registers() { asm volatile("tilerelease"); }
  Registers(const Registers&) = delete;
  Registers& operator=(const Registers&) = delete;
};

// Not the compilers' intrinsics, which take literal numbers of registers and do not say what memory they read.
template <int kRegister>
inline void load(const void* rows, int64_t stride_bytes) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(rows), "r"(stride_bytes), "i"(kRegister) : "memory");
}
template <int kRegister>
inline void store(void* rows, int64_t stride_bytes) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(rows), "r"(stride_bytes), "i"(kRegister) : "memory");
}
template <int kRegister>
inline void zero() {
  asm volatile("tilezero %%tmm%c0" : : "i"(kRegister));
}
// sums [rows][16] f32 += inputs [rows][16][2] x weights [16][16][2], both bf16
template <int kSums, int kInputs, int kWeights>
inline void multiply_bf16() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kSums), "i"(kInputs), "i"(kWeights));
}

}  // namespace espalier::amx
#endif
