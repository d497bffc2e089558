#include "checkpoint/dequantize.h"

#include <cstring>

#include "core/half.h"

namespace espalier {
namespace {

template <class T>
T read(const std::byte* p) {
  T value;
  std::memcpy(&value, p, sizeof(T));
  return value;
}

float half_at(const std::byte* p) {
  return half_to_float(read<uint16_t>(p));
}
uint8_t byte_at(const std::byte* p) {
  return std::to_integer<uint8_t>(*p);
}

void convert_f32(const std::byte* in, int64_t count, float* out) {
  std::memcpy(out, in, static_cast<size_t>(count) * 4);
}
void convert_f16(const std::byte* in, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = half_at(in + 2 * i);
}
void convert_bf16(const std::byte* in, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = bf16_to_float(read<uint16_t>(in + 2 * i));
}

// 32 elements: scale d, then signed bytes.
void convert_q8_0(const std::byte* in, int64_t count, float* out) {
  for (; count > 0; --count, in += 34, out += 32) {
    const float d = half_at(in);
    for (int i = 0; i < 32; ++i) out[i] = d * static_cast<float>(static_cast<int8_t>(byte_at(in + 2 + i)));
  }
}

// 32 elements of 4 or 5 bits: the low nibbles are elements 0..15, the high ones 16..31; a fifth bit stands in a mask.
// value = d * (q - offset) + m
template <bool kFifthBit, bool kMinimum>
void convert_small(const std::byte* in, int64_t count, float* out) {
  constexpr int kHeader = kMinimum ? 4 : 2;
  constexpr int kBytes = kHeader + (kFifthBit ? 4 : 0) + 16;
  constexpr int kOffset = kMinimum ? 0 : (kFifthBit ? 16 : 8);
  for (; count > 0; --count, in += kBytes, out += 32) {
    const float d = half_at(in);
    const float m = kMinimum ? half_at(in + 2) : 0.0f;
    const uint32_t high = kFifthBit ? read<uint32_t>(in + kHeader) : 0;
    const std::byte* nibbles = in + kHeader + (kFifthBit ? 4 : 0);
    for (int i = 0; i < 16; ++i) {
      int low = byte_at(nibbles + i) & 15, top = byte_at(nibbles + i) >> 4;
      if (kFifthBit) {
        low |= static_cast<int>((high >> i) & 1u) << 4;
        top |= static_cast<int>((high >> (i + 16)) & 1u) << 4;
      }
      out[i] = d * static_cast<float>(low - kOffset) + m;
      out[i + 16] = d * static_cast<float>(top - kOffset) + m;
    }
  }
}

// Six-bit scales and minima of Q4_K and Q5_K: eight of each in twelve bytes.
void scale_and_minimum(const std::byte* packed, int index, int& scale, int& minimum) {
  if (index < 4) {
    scale = byte_at(packed + index) & 63;
    minimum = byte_at(packed + index + 4) & 63;
  } else {
    scale = (byte_at(packed + index + 4) & 15) | ((byte_at(packed + index - 4) >> 6) << 4);
    minimum = (byte_at(packed + index + 4) >> 4) | ((byte_at(packed + index) >> 6) << 4);
  }
}

// 256 elements in 16 groups of 16: 4-bit scales and minima, 2-bit values.
void convert_q2_k(const std::byte* in, int64_t count, float* out) {
  for (; count > 0; --count, in += 84) {
    const float d = half_at(in + 80), m = half_at(in + 82);
    for (int half = 0; half < 2; ++half) {
      for (int shift = 0; shift < 4; ++shift) {
        for (int part = 0; part < 2; ++part) {
          const int packed = byte_at(in + half * 8 + shift * 2 + part);
          const float scale = d * static_cast<float>(packed & 15), minimum = m * static_cast<float>(packed >> 4);
          for (int i = 0; i < 16; ++i) {
            const int q = (byte_at(in + 16 + half * 32 + part * 16 + i) >> (2 * shift)) & 3;
            *out++ = scale * static_cast<float>(q) - minimum;
          }
        }
      }
    }
  }
}

// 256 elements in 16 groups of 16: 6-bit scales, 2-bit values and a mask of third bits (set: no subtraction of 4).
void convert_q3_k(const std::byte* in, int64_t count, float* out) {
  for (; count > 0; --count, in += 110) {
    const std::byte* mask = in;
    const std::byte* low = in + 32;
    const std::byte* packed = in + 96;
    const float d = half_at(in + 108);
    int scales[16];
    for (int i = 0; i < 16; ++i) {
      const int bits = i < 8 ? byte_at(packed + i) & 15 : byte_at(packed + i - 8) >> 4;
      scales[i] = (bits | (((byte_at(packed + 8 + i % 4) >> (2 * (i / 4))) & 3) << 4)) - 32;
    }
    for (int half = 0; half < 2; ++half) {
      for (int shift = 0; shift < 4; ++shift) {
        for (int part = 0; part < 2; ++part) {
          const float scale = d * static_cast<float>(scales[half * 8 + shift * 2 + part]);
          for (int i = 0; i < 16; ++i) {
            const int place = part * 16 + i;
            const int q = (byte_at(low + half * 32 + place) >> (2 * shift)) & 3;
            const bool third = (byte_at(mask + place) >> (half * 4 + shift)) & 1;
            *out++ = scale * static_cast<float>(q - (third ? 0 : 4));
          }
        }
      }
    }
  }
}

// 256 elements in 8 groups of 32: 6-bit scales and minima, 4-bit values (and a fifth bit for Q5_K).
template <bool kFifthBit>
void convert_q45_k(const std::byte* in, int64_t count, float* out) {
  constexpr int kBytes = kFifthBit ? 176 : 144;
  for (; count > 0; --count, in += kBytes) {
    const float d = half_at(in), m = half_at(in + 2);
    const std::byte* high = in + 16;
    const std::byte* low = in + (kFifthBit ? 48 : 16);
    for (int group = 0; group < 8; ++group) {
      int scale = 0, minimum = 0;
      scale_and_minimum(in + 4, group, scale, minimum);
      const float s = d * static_cast<float>(scale), offset = m * static_cast<float>(minimum);
      for (int i = 0; i < 32; ++i) {
        int q = (byte_at(low + group / 2 * 32 + i) >> (4 * (group % 2))) & 15;
        if (kFifthBit) q |= ((byte_at(high + i) >> group) & 1) << 4;
        *out++ = s * static_cast<float>(q) - offset;
      }
    }
  }
}

// 256 elements in 16 groups of 16: signed 8-bit scales, 4 low and 2 high bits, minus 32.
void convert_q6_k(const std::byte* in, int64_t count, float* out) {
  for (; count > 0; --count, in += 210, out += 256) {
    const std::byte* low = in;
    const std::byte* high = in + 128;
    const float d = half_at(in + 208);
    for (int e = 0; e < 256; ++e) {
      const int half = e / 128, quarter = e % 128 / 32, i = e % 32;
      const int nibble = (byte_at(low + half * 64 + (quarter % 2) * 32 + i) >> (4 * (quarter / 2))) & 15;
      const int top = (byte_at(high + half * 32 + i) >> (2 * quarter)) & 3;
      const float scale = static_cast<float>(static_cast<int8_t>(byte_at(in + 192 + e / 16)));
      out[e] = d * scale * static_cast<float>((nibble | (top << 4)) - 32);
    }
  }
}

constexpr TensorType kTypes[] = {
    {0, "F32", 1, 4, convert_f32},
    {1, "F16", 1, 2, convert_f16},
    {2, "Q4_0", 32, 18, convert_small<false, false>},
    {3, "Q4_1", 32, 20, convert_small<false, true>},
    {6, "Q5_0", 32, 22, convert_small<true, false>},
    {7, "Q5_1", 32, 24, convert_small<true, true>},
    {8, "Q8_0", 32, 34, convert_q8_0},
    {10, "Q2_K", 256, 84, convert_q2_k},
    {11, "Q3_K", 256, 110, convert_q3_k},
    {12, "Q4_K", 256, 144, convert_q45_k<false>},
    {13, "Q5_K", 256, 176, convert_q45_k<true>},
    {14, "Q6_K", 256, 210, convert_q6_k},
    {30, "BF16", 1, 2, convert_bf16},
};

}  // namespace

const TensorType* find_tensor_type(uint32_t number) {
  for (const TensorType& type : kTypes) {
    if (type.number == number) return &type;
  }
  return nullptr;
}

std::string tensor_type_name(uint32_t number) {
  const TensorType* type = find_tensor_type(number);
  return type ? type->name : "type " + std::to_string(number);
}

}  // namespace espalier
