// Sixteen virtual lanes: the one vector type that kernels compute with, compiled once per instruction set.
//
// On AVX2 it is two registers, on AVX-512 one, and plain floats with std::fma on any other target: one is never taken
// to fuse multiply-adds because its name is new. Every operation is elementwise, and reductions use one fixed tree, so
// all targets agree bit for bit.

// Included once per target: the guard toggles as Highway's own do.
#if defined(ESPALIER_KERNELS_LANES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ESPALIER_KERNELS_LANES_INL_H_
#undef ESPALIER_KERNELS_LANES_INL_H_
#else
#define ESPALIER_KERNELS_LANES_INL_H_
#endif

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace espalier {
namespace HWY_NAMESPACE {

#if HWY_TARGET != HWY_AVX2 && HWY_TARGET != HWY_AVX3

inline constexpr int kParts = 16;
struct V16 {
  float lane[16];
};

template <class Operation>
HWY_INLINE V16 each_lane(Operation operation) {
  V16 result;
  for (int i = 0; i < 16; ++i) result.lane[i] = operation(i);
  return result;
}

HWY_INLINE V16 broadcast(float x) {
  return each_lane([&](int) { return x; });
}
HWY_INLINE V16 load(const float* p) {
  return each_lane([&](int i) { return p[i]; });
}
HWY_INLINE void store(const V16& a, float* p) {
  std::memcpy(p, a.lane, sizeof(a.lane));
}
HWY_INLINE V16 add(const V16& a, const V16& b) {
  return each_lane([&](int i) { return a.lane[i] + b.lane[i]; });
}
HWY_INLINE V16 mul(const V16& a, const V16& b) {
  return each_lane([&](int i) { return a.lane[i] * b.lane[i]; });
}
HWY_INLINE V16 div(const V16& a, const V16& b) {
  return each_lane([&](int i) { return a.lane[i] / b.lane[i]; });
}
HWY_INLINE V16 fma(const V16& a, const V16& b, const V16& c) {
  return each_lane([&](int i) { return std::fma(a.lane[i], b.lane[i], c.lane[i]); });
}
// The second operand where the comparison fails, as maxps does: a NaN in `a` gives b.
HWY_INLINE V16 max(const V16& a, const V16& b) {
  return each_lane([&](int i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; });
}
HWY_INLINE V16 min(const V16& a, const V16& b) {
  return each_lane([&](int i) { return a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]; });
}
HWY_INLINE V16 sub(const V16& a, const V16& b) {
  return each_lane([&](int i) { return a.lane[i] - b.lane[i]; });
}
// (even, odd) bf16 of 16 pairs, widened.
HWY_INLINE V16 even_of_pairs(const uint16_t* p) {
  return each_lane([&](int i) { return std::bit_cast<float>(static_cast<uint32_t>(p[2 * i]) << 16); });
}
HWY_INLINE V16 odd_of_pairs(const uint16_t* p) {
  return each_lane([&](int i) { return std::bit_cast<float>(static_cast<uint32_t>(p[2 * i + 1]) << 16); });
}
// Some bits of 16 words, as numbers.
template <int kShift, uint32_t kMask>
HWY_INLINE V16 bits_of_words(const void* p) {
  uint32_t words[16];
  std::memcpy(words, p, sizeof(words));
  return each_lane([&](int i) { return static_cast<float>((words[i] >> kShift) & kMask); });
}
// 2^n, n in [-126, 127] as the low bits of a whole number.
HWY_INLINE V16 power_of_two(const V16& n) {
  return each_lane([&](int i) { return std::bit_cast<float>((std::bit_cast<uint32_t>(n.lane[i]) + 127) << 23); });
}
// A sine and a cosine.
struct SinCos {
  V16 sine, cosine;
};
// Of the angle that is n quarter turns further, n as the low bits of a whole number.
HWY_INLINE SinCos turned(const SinCos& a, const V16& n) {
  SinCos result;
  for (int i = 0; i < 16; ++i) {
    const uint32_t quarter = std::bit_cast<uint32_t>(n.lane[i]);
    const float sine = quarter & 1 ? a.cosine.lane[i] : a.sine.lane[i];
    const float cosine = quarter & 1 ? a.sine.lane[i] : a.cosine.lane[i];
    result.sine.lane[i] = quarter & 2 ? -sine : sine;
    result.cosine.lane[i] = (quarter + 1) & 2 ? -cosine : cosine;
  }
  return result;
}
// where x < limit: value, else other. A NaN in x gives other.
HWY_INLINE V16 select_less(const V16& x, const V16& limit, const V16& value, const V16& other) {
  return each_lane([&](int i) { return x.lane[i] < limit.lane[i] ? value.lane[i] : other.lane[i]; });
}

#else

namespace hn = hwy::HWY_NAMESPACE;
using F = hn::CappedTag<float, 16>;
using U = hn::RebindToUnsigned<F>;
using I = hn::RebindToSigned<F>;
using Part = hn::Vec<F>;
inline constexpr int kPartLanes = static_cast<int>(hn::MaxLanes(F()));
inline constexpr int kParts = 16 / kPartLanes;  // registers of a vector

struct V16 {
  Part part[kParts];
};

template <class Operation>
HWY_INLINE V16 each_part(Operation operation) {
  V16 result;
  for (int i = 0; i < kParts; ++i) result.part[i] = operation(i);
  return result;
}

HWY_INLINE V16 broadcast(float x) {
  const Part all = hn::Set(F(), x);
  return each_part([&](int) HWY_ATTR { return all; });
}
HWY_INLINE V16 load(const float* p) {
  return each_part([&](int i) HWY_ATTR { return hn::LoadU(F(), p + i * kPartLanes); });
}
HWY_INLINE void store(const V16& a, float* p) {
  for (int i = 0; i < kParts; ++i) hn::StoreU(a.part[i], F(), p + i * kPartLanes);
}
HWY_INLINE V16 add(const V16& a, const V16& b) {
  return each_part([&](int i) HWY_ATTR { return hn::Add(a.part[i], b.part[i]); });
}
HWY_INLINE V16 mul(const V16& a, const V16& b) {
  return each_part([&](int i) HWY_ATTR { return hn::Mul(a.part[i], b.part[i]); });
}
HWY_INLINE V16 div(const V16& a, const V16& b) {
  return each_part([&](int i) HWY_ATTR { return hn::Div(a.part[i], b.part[i]); });
}
HWY_INLINE V16 fma(const V16& a, const V16& b, const V16& c) {
  return each_part([&](int i) HWY_ATTR { return hn::MulAdd(a.part[i], b.part[i], c.part[i]); });
}
// As the plain ones: on x86 these are maxps and minps.
HWY_INLINE V16 max(const V16& a, const V16& b) {
  return each_part([&](int i) HWY_ATTR { return hn::Max(a.part[i], b.part[i]); });
}
HWY_INLINE V16 min(const V16& a, const V16& b) {
  return each_part([&](int i) HWY_ATTR { return hn::Min(a.part[i], b.part[i]); });
}
HWY_INLINE V16 sub(const V16& a, const V16& b) {
  return each_part([&](int i) HWY_ATTR { return hn::Sub(a.part[i], b.part[i]); });
}
HWY_INLINE V16 even_of_pairs(const uint16_t* p) {
  const uint32_t* words = reinterpret_cast<const uint32_t*>(p);
  return each_part(
      [&](int i) HWY_ATTR { return hn::BitCast(F(), hn::ShiftLeft<16>(hn::LoadU(U(), words + i * kPartLanes))); });
}
// In memory rather than in a register: the tiles of products have none to spare.
alignas(64) inline constexpr auto kOddMask = [] {
  std::array<uint32_t, 16> mask{};
  mask.fill(0xffff0000u);
  return mask;
}();
HWY_INLINE V16 odd_of_pairs(const uint16_t* p) {
  const uint32_t* words = reinterpret_cast<const uint32_t*>(p);
  const uint32_t* mask = kOddMask.data();
  asm("" : "+r"(mask));  // or the compiler would fold it back into a register
  return each_part([&](int i) HWY_ATTR {
    return hn::BitCast(F(), hn::And(hn::LoadU(U(), words + i * kPartLanes), hn::Load(U(), mask)));
  });
}
template <int kShift, uint32_t kMask>
HWY_INLINE V16 bits_of_words(const void* p) {
  const auto* words = static_cast<const uint32_t*>(p);
  return each_part([&](int i) HWY_ATTR {
    const auto bits = hn::ShiftRight<kShift>(hn::LoadU(U(), words + i * kPartLanes));
    return hn::ConvertTo(F(), hn::BitCast(I(), hn::And(bits, hn::Set(U(), kMask))));
  });
}
HWY_INLINE V16 power_of_two(const V16& n) {
  return each_part([&](int i) HWY_ATTR {
    return hn::BitCast(F(), hn::ShiftLeft<23>(hn::Add(hn::BitCast(U(), n.part[i]), hn::Set(U(), 127))));
  });
}
struct SinCos {
  V16 sine, cosine;
};
HWY_INLINE SinCos turned(const SinCos& a, const V16& n) {
  SinCos result;
  const auto one = hn::Set(U(), 1), two = hn::Set(U(), 2);
  for (int i = 0; i < kParts; ++i) {
    const auto quarter = hn::BitCast(U(), n.part[i]);
    const auto odd = hn::RebindMask(F(), hn::TestBit(quarter, one));
    const auto flip_sine = hn::BitCast(F(), hn::ShiftLeft<30>(hn::And(quarter, two)));
    const auto flip_cosine = hn::BitCast(F(), hn::ShiftLeft<30>(hn::And(hn::Add(quarter, one), two)));
    const Part sine = a.sine.part[i], cosine = a.cosine.part[i];
    result.sine.part[i] = hn::Xor(hn::IfThenElse(odd, cosine, sine), flip_sine);
    result.cosine.part[i] = hn::Xor(hn::IfThenElse(odd, sine, cosine), flip_cosine);
  }
  return result;
}
HWY_INLINE V16 select_less(const V16& x, const V16& limit, const V16& value, const V16& other) {
  return each_part(
      [&](int i) HWY_ATTR { return hn::IfThenElse(hn::Lt(x.part[i], limit.part[i]), value.part[i], other.part[i]); });
}

#endif

// The one reduction tree: lanes i and i + 8, then 4, 2, 1 apart.
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3
template <class Operation>
HWY_INLINE float reduce(const V16& a, Operation operation) {
  const hn::CappedTag<float, 8> d8;
  const hn::CappedTag<float, 4> d4;
#if HWY_TARGET == HWY_AVX2
  const auto eight = operation(a.part[0], a.part[1]);
#else
  const auto eight = operation(hn::LowerHalf(d8, a.part[0]), hn::UpperHalf(d8, a.part[0]));
#endif
  const auto four = operation(hn::LowerHalf(d4, eight), hn::UpperHalf(d4, eight));
  const auto two = operation(four, hn::Shuffle1032(four));
  return hn::GetLane(operation(two, hn::Shuffle2301(two)));
}
HWY_INLINE float reduce_add(const V16& a) {
  return reduce(a, [](auto x, auto y) HWY_ATTR { return hn::Add(x, y); });
}
HWY_INLINE float reduce_max(const V16& a) {
  return reduce(a, [](auto x, auto y) HWY_ATTR { return hn::Max(x, y); });
}

// The first `count` < 16 elements, `fill` in the others, which are not touched in memory.
HWY_INLINE auto first_lanes(int64_t count, int part) {
  return hn::FirstN(F(), static_cast<size_t>(std::clamp<int64_t>(count - part * kPartLanes, 0, kPartLanes)));
}
HWY_INLINE V16 load_tail(const float* p, int64_t count, float fill) {
  const Part rest = hn::Set(F(), fill);
  return each_part([&](int i) HWY_ATTR {
    const auto lanes = first_lanes(count, i);
    return hn::IfThenElse(lanes, hn::MaskedLoad(lanes, F(), p + i * kPartLanes), rest);
  });
}
// The first `count` < 16 lanes of a, `fill` in the others.
HWY_INLINE V16 fill_tail(const V16& a, int64_t count, float fill) {
  const Part rest = hn::Set(F(), fill);
  return each_part([&](int i) HWY_ATTR { return hn::IfThenElse(first_lanes(count, i), a.part[i], rest); });
}
HWY_INLINE void store_tail(const V16& a, float* p, int64_t count) {
  for (int i = 0; i < kParts; ++i) hn::BlendedStore(a.part[i], first_lanes(count, i), F(), p + i * kPartLanes);
}
#else
template <class Operation>
HWY_INLINE float reduce(const V16& a, Operation operation) {
  float lane[16];
  store(a, lane);
  for (int width = 8; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) lane[i] = operation(lane[i], lane[i + width]);
  }
  return lane[0];
}
HWY_INLINE float reduce_add(const V16& a) {
  return reduce(a, [](float x, float y) { return x + y; });
}
HWY_INLINE float reduce_max(const V16& a) {
  return reduce(a, [](float x, float y) { return x > y ? x : y; });
}

HWY_INLINE V16 load_tail(const float* p, int64_t count, float fill) {
  float lane[16];
  std::fill(lane, lane + 16, fill);
  std::copy(p, p + count, lane);
  return load(lane);
}
HWY_INLINE V16 fill_tail(const V16& a, int64_t count, float fill) {
  float lane[16];
  store(a, lane);
  std::fill(lane + count, lane + 16, fill);
  return load(lane);
}
HWY_INLINE void store_tail(const V16& a, float* p, int64_t count) {
  float lane[16];
  store(a, lane);
  std::copy(lane, lane + count, p);
}
#endif

// Below this, e^x is no normal number.
inline constexpr float kLeastExponent = -87.33654f;

// 2^n e^r, where x = n ln 2 + r and |r| <= ln 2 / 2, by Taylor's polynomial of degree 7 in r: about 1 ulp off. x in
// [kLeastExponent, 88.37], or NaN.
HWY_INLINE V16 exp_in_range(const V16& x) {
  // Added to a number, it leaves the nearest whole one in the low bits.
  const V16 rounder = broadcast(12582912.0f);
  const V16 shifted = fma(x, broadcast(1.44269504f), rounder);
  const V16 n = sub(shifted, rounder);
  V16 r = fma(n, broadcast(-0.693145752f), x);
  r = fma(n, broadcast(-1.42860677e-6f), r);
  V16 p = broadcast(1.0f / 5040.0f);
  for (const float coefficient : {1.0f / 720.0f, 1.0f / 120.0f, 1.0f / 24.0f, 1.0f / 6.0f, 0.5f, 1.0f, 1.0f}) {
    p = fma(p, r, broadcast(coefficient));
  }
  return mul(p, power_of_two(shifted));
}

// exp(x): 0 below kLeastExponent, +inf above 88.37, NaN for NaN.
HWY_INLINE V16 exp_lanes(const V16& x) {
  const V16 low = broadcast(kLeastExponent), high = broadcast(88.376259f);
  const V16 y = select_less(x, low, broadcast(0.0f), exp_in_range(min(high, max(low, x))));
  return select_less(high, x, broadcast(HUGE_VALF), y);
}

// The same where x <= 0.
HWY_INLINE V16 exp_of_negative(const V16& x) {
  const V16 low = broadcast(kLeastExponent);
  return select_less(x, low, broadcast(0.0f), exp_in_range(max(low, x)));
}

// sin(x) and cos(x) to about 1e-7, |x| <= kMostAngle: x = n pi / 2 + r, |r| <= pi / 4, and polynomials in r (Cephes'
// sinf and cosf).
inline constexpr float kMostAngle = 8192.0f;
HWY_INLINE SinCos sin_cos_lanes(const V16& x) {
  const V16 rounder = broadcast(12582912.0f);  // as in exp_in_range()
  const V16 shifted = fma(x, broadcast(0.636619772f), rounder);
  const V16 n = sub(shifted, rounder);
  V16 r = fma(n, broadcast(-1.57079637e+0f), x);
  r = fma(n, broadcast(4.37113900e-8f), r);
  const V16 square = mul(r, r);
  V16 s = broadcast(-1.9515295891e-4f);
  s = fma(s, square, broadcast(8.3321608736e-3f));
  s = fma(s, square, broadcast(-1.6666654611e-1f));
  V16 c = broadcast(2.443315711809948e-5f);
  c = fma(c, square, broadcast(-1.388731625493765e-3f));
  c = fma(c, square, broadcast(4.166664568298827e-2f));
  c = fma(c, square, broadcast(-0.5f));
  return turned({fma(mul(s, square), r, r), fma(c, square, broadcast(1.0f))}, shifted);
}

// sum += a * b, in place. By its instruction's name: left alone, g++ 12 picks forms that move the sums between
// registers, of which there is none to spare, and spills some.
HWY_INLINE void add_product(const V16& a, const V16& b, V16& sum) {
#if HWY_TARGET == HWY_AVX2
  auto low = sum.part[0].raw, high = sum.part[1].raw;
  asm("vfmadd231ps %1, %2, %0" : "+x"(low) : "x"(a.part[0].raw), "x"(b.part[0].raw));
  asm("vfmadd231ps %1, %2, %0" : "+x"(high) : "x"(a.part[1].raw), "x"(b.part[1].raw));
  sum.part[0].raw = low;
  sum.part[1].raw = high;
#elif HWY_TARGET == HWY_AVX3
  auto whole = sum.part[0].raw;
  asm("vfmadd231ps %1, %2, %0" : "+v"(whole) : "v"(a.part[0].raw), "v"(b.part[0].raw));
  sum.part[0].raw = whole;
#else
  sum = fma(a, b, sum);
#endif
}

// acc[r] += weight[r * stride] * values, in place. Recursive, so that every sum has a constant index: one with a loop's
// would live in memory.
template <int kRows, int kWidth, int kRow = 0>
HWY_INLINE void add_weighted(V16 (&acc)[kRows][kWidth], const V16 (&values)[kWidth], const float* weight,
                             int64_t stride) {
  const V16 factor = broadcast(*weight);
  for (int w = 0; w < kWidth; ++w) add_product(factor, values[w], acc[kRow][w]);
  if constexpr (kRow + 1 < kRows) add_weighted<kRows, kWidth, kRow + 1>(acc, values, weight + stride, stride);
}

}  // namespace HWY_NAMESPACE
}  // namespace espalier
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
