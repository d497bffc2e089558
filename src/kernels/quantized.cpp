#include "kernels/quantized.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "core/half.h"

// The same loops for wider registers, chosen when the program starts.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define ESPALIER_CLONES [[gnu::target_clones("default", "avx2")]]
#else
#define ESPALIER_CLONES
#endif
#define ESPALIER_INLINE [[gnu::always_inline]] inline

namespace espalier {
namespace {

constexpr float kToNearest = 12582912.0f;  // 1.5 * 2^23: the sum's last bits are the nearest whole number

ESPALIER_INLINE int32_t nearest(float x) {
  return std::bit_cast<int32_t>(x + kToNearest) - std::bit_cast<int32_t>(kToNearest);
}

// Sums and extremes are taken lane by lane first, so that they need not wait for each other.
constexpr int kLanes = 8;

ESPALIER_INLINE float sum_of(const float* lanes) {
  float sum = 0;
  for (int i = 0; i < kLanes; ++i) sum += lanes[i];
  return sum;
}

// The group with this scale and minimum, each weight to its nearest; and its squared error over x [32].
ESPALIER_INLINE float with_scale(const QuantizedFormat& format, float d, float m, const float* x,
                                 QuantizedGroup& group) {
  group.d = float_to_half(d);
  group.m = format.minimum ? float_to_half(m) : 0;
  const float scale = half_to_float(group.d), minimum = half_to_float(group.m);
  const float inverse = scale != 0 ? 1.0f / scale : 0.0f;
  const auto lowest = static_cast<float>((format.bits == 8 ? 1 : 0) - format.zero);
  const auto highest = static_cast<float>((format.bits == 8 ? 255 : 15) - format.zero);
  float error[kLanes] = {};
  for (int64_t first = 0; first < kGroup; first += kLanes) {
    for (int64_t i = 0; i < kLanes; ++i) {
      const float value = (x[first + i] - minimum) * inverse;
      const float above = value < lowest ? lowest : value;
      const int32_t q = nearest(above > highest ? highest : above);
      group.q[first + i] = static_cast<uint8_t>(q + format.zero);
      const float difference = scale * static_cast<float>(q) + minimum - x[first + i];
      error[i] += difference * difference;
    }
  }
  return sum_of(error);
}

// The least and the greatest of x [32].
ESPALIER_INLINE std::pair<float, float> range_of(const float* x) {
  float low[kLanes], high[kLanes];
  for (int i = 0; i < kLanes; ++i) low[i] = high[i] = x[i];
  for (int64_t k = kLanes; k < kGroup; k += kLanes) {
    for (int i = 0; i < kLanes; ++i) {
      low[i] = x[k + i] < low[i] ? x[k + i] : low[i];
      high[i] = x[k + i] > high[i] ? x[k + i] : high[i];
    }
  }
  return {*std::min_element(low, low + kLanes), *std::max_element(high, high + kLanes)};
}

// The bits of max |x| over x [32]; those of infinities and NaNs are from kInfinity on.
ESPALIER_INLINE int32_t greatest_bits(const float* x) {
  int32_t top = 0;
  for (int64_t k = 0; k < kGroup; ++k) top = std::max(top, std::bit_cast<int32_t>(x[k]) & 0x7fffffff);
  return top;
}

// Scale and minimum of least squared error for the weights that a group has.
ESPALIER_INLINE void refine(const QuantizedFormat& format, const QuantizedGroup& group, const float* x, float& d,
                            float& m) {
  float q_lanes[kLanes] = {}, qq_lanes[kLanes] = {}, x_lanes[kLanes] = {}, xq_lanes[kLanes] = {};
  for (int64_t first = 0; first < kGroup; first += kLanes) {
    for (int64_t i = 0; i < kLanes; ++i) {
      const auto q = static_cast<float>(group.q[first + i] - format.zero);
      const float value = x[first + i];
      q_lanes[i] += q;
      qq_lanes[i] += q * q;
      x_lanes[i] += value;
      xq_lanes[i] += q * value;
    }
  }
  const float q_sum = sum_of(q_lanes), qq = sum_of(qq_lanes), x_sum = sum_of(x_lanes), xq = sum_of(xq_lanes);
  constexpr auto n = static_cast<float>(kGroup);
  if (!format.minimum) {
    if (qq > 0) d = xq / qq;
    return;
  }
  const float determinant = n * qq - q_sum * q_sum;
  if (determinant <= 0) return;
  d = (n * xq - q_sum * x_sum) / determinant;
  m = (x_sum - d * q_sum) / n;
}

}  // namespace

float QuantizedGroup::value(const QuantizedFormat& format, int64_t k) const {
  const float product = half_to_float(d) * static_cast<float>(q[k] - format.zero);
  return format.minimum ? product + half_to_float(m) : product;
}

ESPALIER_CLONES
QuantizedGroup quantize_group(const QuantizedFormat& format, const float* x, int64_t count, float* error) {
  float values[kGroup] = {};  // of a short group: zeros, which every format has near enough
  std::copy_n(x, count, values);
  const auto [low, high] = range_of(values);
  const float furthest = -low > high ? low : high;  // the sign counts: of int4, one side has a step more
  QuantizedGroup best;
  best.d = 0x7e00;  // NaN, unless something better is found: of weights that are not finite or too large for a scale
  if (greatest_bits(values) >= kInfinity) {
    if (error) *error = std::numeric_limits<float>::infinity();
    return best;
  }
  if (format.bits == 8) {
    // A scale that was rounded down would clip; among the smallest numbers by much.
    float d = std::abs(furthest) / 127.0f;
    const uint16_t half = float_to_half(d);
    if (half_to_float(half) * 127.49f < std::abs(furthest)) d = half_to_float(static_cast<uint16_t>(half + 1));
    const float own = with_scale(format, d, 0, values, best);
    if (error) *error = own;
    return best;
  }
  float least = std::numeric_limits<float>::infinity();
  for (const float share : {1.0f, 0.95f, 0.9f, 0.85f, 0.8f}) {  // the whole range, then narrower ones, which clip
    float d = format.minimum ? (high - low) * share / 15.0f : furthest * share / -8.0f;
    float m = low + (high - low) * (1 - share) / 2;
    for (int round = 0; round < 4 && least > 0; ++round) {
      QuantizedGroup group;
      const float own = with_scale(format, d, m, values, group);
      if (own < least) least = own, best = group;
      if (least == 0) break;
      refine(format, group, values, d, m);
    }
  }
  if (error) *error = least;
  return best;
}

int64_t quantized_row_bytes(int64_t inputs) {
  constexpr int64_t kLine = 64;
  const int64_t bytes = padded_inputs(inputs) / kGroup * static_cast<int64_t>(sizeof(InputGroup));
  return ((bytes + kLine - 1) / kLine | 1) * kLine;
}

ESPALIER_CLONES
void quantize_rows(const QuantizedFormat& format, const float* x, int64_t x_stride, int64_t rows, int64_t inputs,
                   int64_t row_bytes, void* out) {
  const int64_t groups = padded_inputs(inputs) / kGroup;
  for (int64_t r = 0; r < rows; ++r) {
    auto* row = reinterpret_cast<InputGroup*>(static_cast<std::byte*>(out) + r * row_bytes);
    for (int64_t g = 0; g < groups; ++g) {
      InputGroup& group = row[g];
      float values[kGroup] = {};
      std::copy_n(x + r * x_stride + g * kGroup, std::clamp<int64_t>(inputs - g * kGroup, 0, kGroup), values);
      const InputScale scale(greatest_bits(values));
      int32_t total = 0;
      for (int64_t k = 0; k < kGroup; ++k) {
        const int32_t q = scale.finite ? nearest(values[k] * scale.inverse) : 0;
        group.b[k] = static_cast<int8_t>(q);
        total += q;
      }
      group.scale = scale.scale;
      group.sum = scale.scale * static_cast<float>(total);
      group.start = -format.zero * total;
    }
  }
}

}  // namespace espalier
