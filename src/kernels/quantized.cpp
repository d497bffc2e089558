#include "kernels/quantized.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <iterator>
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

// A group's scale and minimum as they are stored.
struct Halves {
  uint16_t d, m;

  bool operator==(const Halves&) const = default;
};
ESPALIER_INLINE Halves halves_of(const QuantizedFormat& format, float d, float m) {
  return {float_to_half(d), format.minimum ? float_to_half(m) : uint16_t{0}};
}

// Each of x [32] to its nearest weight, q [32] without their zero; and the squared error.
ESPALIER_INLINE float round_group(const QuantizedFormat& format, const Halves& halves, const float* x, float* q) {
  const float scale = half_to_float(halves.d), minimum = half_to_float(halves.m);
  const float inverse = scale != 0 ? 1.0f / scale : 0.0f;
  const auto lowest = static_cast<float>((format.bits == 8 ? 1 : 0) - format.zero);
  const auto highest = static_cast<float>((format.bits == 8 ? 255 : 15) - format.zero);
  float error[kLanes] = {};
  for (int64_t first = 0; first < kScaleGroup; first += kLanes) {
    for (int64_t i = 0; i < kLanes; ++i) {
      const float value = (x[first + i] - minimum) * inverse;
      const float above = value < lowest ? lowest : value;
      q[first + i] = ((above > highest ? highest : above) + kToNearest) - kToNearest;
      const float difference = scale * q[first + i] + minimum - x[first + i];
      error[i] += difference * difference;
    }
  }
  return sum_of(error);
}

ESPALIER_INLINE QuantizedGroup group_of(const QuantizedFormat& format, const Halves& halves, const float* q) {
  QuantizedGroup group{.d = halves.d, .m = halves.m};
  for (int64_t k = 0; k < kScaleGroup; ++k) group.q[k] = static_cast<uint8_t>(static_cast<int32_t>(q[k]) + format.zero);
  return group;
}

// The least and the greatest of x [32].
ESPALIER_INLINE std::pair<float, float> range_of(const float* x) {
  float low[kLanes], high[kLanes];
  for (int i = 0; i < kLanes; ++i) low[i] = high[i] = x[i];
  for (int64_t k = kLanes; k < kScaleGroup; k += kLanes) {
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
  for (int64_t k = 0; k < kScaleGroup; ++k) top = std::max(top, std::bit_cast<int32_t>(x[k]) & 0x7fffffff);
  return top;
}

// Scale and minimum of least squared error for the weights q [32] that a group has.
ESPALIER_INLINE void refine(const QuantizedFormat& format, const float* q, const float* x, float& d, float& m) {
  float q_lanes[kLanes] = {}, qq_lanes[kLanes] = {}, x_lanes[kLanes] = {}, xq_lanes[kLanes] = {};
  for (int64_t first = 0; first < kScaleGroup; first += kLanes) {
    for (int64_t i = 0; i < kLanes; ++i) {
      const float weight = q[first + i], value = x[first + i];
      q_lanes[i] += weight;
      qq_lanes[i] += weight * weight;
      x_lanes[i] += value;
      xq_lanes[i] += weight * value;
    }
  }
  const float q_sum = sum_of(q_lanes), qq = sum_of(qq_lanes), x_sum = sum_of(x_lanes), xq = sum_of(xq_lanes);
  constexpr auto n = static_cast<float>(kScaleGroup);
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
  float values[kScaleGroup] = {};  // of a short group: zeros, which every format has near enough
  std::copy_n(x, count, values);
  const auto [low, high] = range_of(values);
  const float furthest = -low > high ? low : high;  // the sign counts: of int4, one side has a step more
  QuantizedGroup best;
  best.d = 0x7e00;  // NaN, unless something better is found: of weights that are not finite or too large for a scale
  if (greatest_bits(values) >= kInfinity) {
    if (error) *error = std::numeric_limits<float>::infinity();
    return best;
  }
  float q[kScaleGroup];
  if (format.bits == 8) {
    // A scale that was rounded down would clip; among the smallest numbers by much.
    float d = std::abs(furthest) / 127.0f;
    const uint16_t half = float_to_half(d);
    if (half_to_float(half) * 127.49f < std::abs(furthest)) d = half_to_float(static_cast<uint16_t>(half + 1));
    const Halves halves = halves_of(format, d, 0);
    const float own = round_group(format, halves, values, q);
    if (error) *error = own;
    return group_of(format, halves, q);
  }
  float least = std::numeric_limits<float>::infinity();
  constexpr float kShares[] = {1.0f, 0.95f, 0.9f, 0.85f, 0.8f};  // the whole range, then narrower ones, which clip
  constexpr int kRounds = 4;
  Halves tried[kRounds][std::size(kShares)];
  int counts[kRounds] = {};
  for (const float share : kShares) {
    float d = format.minimum ? (high - low) * share / 15.0f : furthest * share / -8.0f;
    float m = low + (high - low) * (1 - share) / 2;
    for (int round = 0; round < kRounds && least > 0; ++round) {
      const Halves halves = halves_of(format, d, m);
      bool again = false;  // from here on, rounds would be those that followed then
      for (int r = 0; r <= round; ++r) again = again || std::count(tried[r], tried[r] + counts[r], halves) > 0;
      if (again) break;
      tried[round][counts[round]++] = halves;
      const float own = round_group(format, halves, values, q);
      if (own < least) {
        least = own;
        best = group_of(format, halves, q);
      }
      if (least == 0) break;
      refine(format, q, values, d, m);
    }
  }
  if (error) *error = least;
  return best;
}

int64_t quantized_row_bytes(int64_t inputs) {
  constexpr int64_t kLine = 64;
  const int64_t bytes = padded_inputs(inputs) / kScaleGroup * static_cast<int64_t>(sizeof(InputGroup));
  return ((bytes + kLine - 1) / kLine | 1) * kLine;
}

ESPALIER_CLONES
void quantize_rows(const QuantizedFormat& format, const float* x, int64_t x_stride, int64_t rows, int64_t inputs,
                   int64_t row_bytes, void* out) {
  const int64_t groups = padded_inputs(inputs) / kScaleGroup;
  for (int64_t r = 0; r < rows; ++r) {
    auto* row = reinterpret_cast<InputGroup*>(static_cast<std::byte*>(out) + r * row_bytes);
    for (int64_t g = 0; g < groups; ++g) {
      InputGroup& group = row[g];
      float values[kScaleGroup] = {};
      std::copy_n(x + r * x_stride + g * kScaleGroup, std::clamp<int64_t>(inputs - g * kScaleGroup, 0, kScaleGroup),
                  values);
      const InputScale scale(greatest_bits(values));
      int32_t total = 0;
      for (int64_t k = 0; k < kScaleGroup; ++k) {
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
