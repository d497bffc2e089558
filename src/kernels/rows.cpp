// Operations on single rows: norms, activations, rotary, softmax parts.
#include "core/half.h"
#include "kernels/tables.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/rows.cpp"
#include "hwy/foreach_target.h"
//
#include "kernels/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace espalier {
namespace HWY_NAMESPACE {

// y[i] = operation(x[i]) over 16 lanes at a time; a tail goes through a padded copy.
template <class Operation>
HWY_INLINE void map_row(const float* x, int64_t n, float* y, Operation operation) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) store(operation(load(x + i)), y + i);
  if (i < n) store_tail(operation(load_tail(x + i, n - i, 0.0f)), y + i, n - i);
}

template <class Operation>
HWY_INLINE void map_rows(const float* a, const float* b, int64_t n, float* y, Operation operation) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) store(operation(load(a + i), load(b + i)), y + i);
  if (i < n) store_tail(operation(load_tail(a + i, n - i, 0.0f), load_tail(b + i, n - i, 0.0f)), y + i, n - i);
}

float dot(const float* x, const float* y, int64_t n) {
  V16 sum = broadcast(0.0f);
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) sum = fma(load(x + i), load(y + i), sum);
  if (i < n) sum = fma(load_tail(x + i, n - i, 0.0f), load_tail(y + i, n - i, 0.0f), sum);
  return reduce_add(sum);
}

void rms_norm(const float* x, const float* weight, double eps, int64_t n, float* y) {
  const double mean = static_cast<double>(dot(x, x, n)) / static_cast<double>(n);
  const V16 factor = broadcast(static_cast<float>(1.0 / std::sqrt(mean + eps)));
  map_rows(x, weight, n, y, [&](const V16& a, const V16& w) HWY_ATTR { return mul(mul(a, factor), w); });
}

void add_rows(const float* a, const float* b, int64_t n, float* y) {
  map_rows(a, b, n, y, [](const V16& p, const V16& q) HWY_ATTR { return add(p, q); });
}

void layer_norm(const float* x, const float* weight, const float* bias, double eps, int64_t n, float* y) {
  V16 sum = broadcast(0.0f);
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) sum = add(load(x + i), sum);
  if (i < n) sum = add(load_tail(x + i, n - i, 0.0f), sum);
  const double mean = static_cast<double>(reduce_add(sum)) / static_cast<double>(n);
  const V16 minus = broadcast(static_cast<float>(-mean));
  map_row(x, n, y, [&](const V16& a) HWY_ATTR { return add(a, minus); });
  const double variance = static_cast<double>(dot(y, y, n)) / static_cast<double>(n);
  const V16 factor = broadcast(static_cast<float>(1.0 / std::sqrt(variance + eps)));
  map_rows(y, weight, n, y, [&](const V16& a, const V16& w) HWY_ATTR { return mul(mul(a, factor), w); });
  map_rows(y, bias, n, y, [](const V16& a, const V16& b) HWY_ATTR { return add(a, b); });
}

// x / (1 + e^-y)
HWY_INLINE V16 gate_by_sigmoid(const V16& x, const V16& y) {
  return div(x, add(broadcast(1.0f), exp_lanes(mul(y, broadcast(-1.0f)))));
}

// 1 - erf(x) for x >= 0 by a Chebyshev fit in t = 1 / (1 + x / 2), relative error 1.2e-7 (Press et al., Numerical
// Recipes, section 6.2).
HWY_INLINE V16 erfc_lanes(const V16& x) {
  const V16 t = div(broadcast(1.0f), fma(x, broadcast(0.5f), broadcast(1.0f)));
  V16 p = broadcast(0.17087277f);
  for (const float coefficient : {-0.82215223f, 1.48851587f, -1.13520398f, 0.27886807f, -0.18628806f, 0.09678418f,
                                  0.37409196f, 1.00002368f, -1.26551223f}) {
    p = fma(p, t, broadcast(coefficient));
  }
  return mul(t, exp_lanes(fma(mul(x, broadcast(-1.0f)), x, p)));
}

// One operation for each activation.
struct Silu {
  HWY_INLINE V16 operator()(const V16& x) const { return gate_by_sigmoid(x, x); }
};
struct Gelu {  // x - x erfc(x / sqrt(2)) / 2 above 0, x erfc(-x / sqrt(2)) / 2 below
  HWY_INLINE V16 operator()(const V16& x) const {
    const V16 scaled = mul(x, broadcast(0.70710678f));
    const V16 part = mul(mul(x, broadcast(0.5f)), erfc_lanes(max(scaled, mul(scaled, broadcast(-1.0f)))));
    return select_less(x, broadcast(0.0f), part, fma(part, broadcast(-1.0f), x));
  }
};
struct GeluTanh {  // 1 + tanh(u) = 2 / (1 + e^-2u)
  HWY_INLINE V16 operator()(const V16& x) const {
    const V16 cubic = fma(mul(x, x), broadcast(0.044715f), broadcast(1.0f));
    return gate_by_sigmoid(x, mul(mul(x, broadcast(1.5957691f)), cubic));
  }
};
struct Relu {
  HWY_INLINE V16 operator()(const V16& x) const { return max(x, broadcast(0.0f)); }
};
struct ReluSquared {
  HWY_INLINE V16 operator()(const V16& x) const {
    const V16 y = max(x, broadcast(0.0f));
    return mul(y, y);
  }
};
struct Tanh {  // 2 / (1 + e^-2x) - 1, and x - x^3/3 + 2x^5/15 - 17x^7/315 where that would cancel
  HWY_INLINE V16 operator()(const V16& x) const {
    const V16 minus_one = broadcast(-1.0f);
    const V16 far = add(gate_by_sigmoid(broadcast(2.0f), mul(x, broadcast(2.0f))), minus_one);
    const V16 square = mul(x, x);
    V16 p = fma(square, broadcast(-17.0f / 315.0f), broadcast(2.0f / 15.0f));
    p = fma(fma(p, square, broadcast(-1.0f / 3.0f)), mul(square, x), x);
    return select_less(square, broadcast(0.01f), p, far);
  }
};

struct Sigmoid {
  HWY_INLINE V16 operator()(const V16& x) const { return gate_by_sigmoid(broadcast(1.0f), x); }
};
// max(x, 0) + log(1 + t), t = e^-|x|, and log(1 + t) = 2 atanh(s), s = t / (2 + t) <= 1/3, by its series.
struct Softplus {
  HWY_INLINE V16 operator()(const V16& x) const {
    const V16 size = max(x, mul(x, broadcast(-1.0f)));
    const V16 t = exp_lanes(mul(size, broadcast(-1.0f)));
    const V16 s = div(t, add(t, broadcast(2.0f)));
    const V16 square = mul(s, s);
    V16 p = broadcast(1.0f / 15.0f);
    for (const float coefficient :
         {1.0f / 13.0f, 1.0f / 11.0f, 1.0f / 9.0f, 1.0f / 7.0f, 1.0f / 5.0f, 1.0f / 3.0f, 1.0f}) {
      p = fma(p, square, broadcast(coefficient));
    }
    return fma(mul(s, broadcast(2.0f)), p, max(x, broadcast(0.0f)));
  }
};
struct Laplace {  // erfc(|u|) / 2 below the middle, 1 - erfc(u) / 2 above
  HWY_INLINE V16 operator()(const V16& x) const {
    const V16 u = mul(add(x, broadcast(-0.70710678f)), broadcast(2.5066283f));
    const V16 part = mul(erfc_lanes(max(u, mul(u, broadcast(-1.0f)))), broadcast(0.5f));
    return select_less(u, broadcast(0.0f), part, fma(part, broadcast(-1.0f), broadcast(1.0f)));
  }
};

template <class Body>
void with_activation(Activation f, Body&& body) {
  switch (f) {
    case Activation::kSilu:
      return body(Silu());
    case Activation::kGelu:
      return body(Gelu());
    case Activation::kGeluTanh:
      return body(GeluTanh());
    case Activation::kRelu:
      return body(Relu());
    case Activation::kReluSquared:
      return body(ReluSquared());
    case Activation::kTanh:
      return body(Tanh());
    case Activation::kSigmoid:
      return body(Sigmoid());
    case Activation::kSoftplus:
      return body(Softplus());
    case Activation::kLaplace:
      return body(Laplace());
  }
}

void activate(Activation f, const float* x, int64_t n, float* y) {
  with_activation(f, [&](auto own) HWY_ATTR { map_row(x, n, y, own); });
}

void activate_mul(Activation f, const float* gate, const float* up, int64_t n, float* y) {
  with_activation(f, [&](auto own) HWY_ATTR {
    map_rows(gate, up, n, y, [&](const V16& g, const V16& u) HWY_ATTR { return mul(own(g), u); });
  });
}

void rotate(float* x, const float* cosine, const float* sine, int64_t n) {
  const int64_t half = n / 2;
  const V16 minus = broadcast(-1.0f);
  const auto turn = [&](V16& a, V16& b, const V16& c, const V16& s) HWY_ATTR {
    const V16 first = fma(mul(b, minus), s, mul(a, c));
    b = fma(a, s, mul(b, c));
    a = first;
  };
  int64_t i = 0;
  for (; i + 16 <= half; i += 16) {
    V16 a = load(x + i), b = load(x + half + i);
    turn(a, b, load(cosine + i), load(sine + i));
    store(a, x + i);
    store(b, x + half + i);
  }
  if (i < half) {
    const int64_t rest = half - i;
    V16 a = load_tail(x + i, rest, 0.0f), b = load_tail(x + half + i, rest, 0.0f);
    turn(a, b, load_tail(cosine + i, rest, 0.0f), load_tail(sine + i, rest, 0.0f));
    store_tail(a, x + i, rest);
    store_tail(b, x + half + i, rest);
  }
}

float exp_sum(const float* x, float shift, int64_t n, float* y) {
  const V16 minus = broadcast(-shift);
  V16 sum = broadcast(0.0f);
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const V16 e = exp_lanes(add(load(x + i), minus));
    sum = add(sum, e);
    store(e, y + i);
  }
  if (i < n) {
    const V16 e = exp_lanes(add(load_tail(x + i, n - i, -HUGE_VALF), minus));
    sum = add(sum, e);
    store_tail(e, y + i, n - i);
  }
  return reduce_add(sum);
}

float max_row(const float* x, int64_t n) {
  V16 greatest = broadcast(-HUGE_VALF);
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) greatest = max(load(x + i), greatest);
  if (i < n) greatest = max(load_tail(x + i, n - i, -HUGE_VALF), greatest);
  return reduce_max(greatest);
}

// Some rows of equal length together, so that none waits for another's reductions.
template <int kRows>
void exp_equal_rows(const ExpRows& e, int64_t row) {
  const V16 factor = broadcast(e.factor);
  const int64_t n = e.count_of(row), whole = n / 16 * 16;
  float* x = e.x + row * e.stride;
  V16 value[kRows];
  for (V16& greatest : value) greatest = broadcast(-HUGE_VALF);
  for (int64_t i = 0; i < whole; i += 16) {
    for (int r = 0; r < kRows; ++r) value[r] = max(mul(load(x + r * e.stride + i), factor), value[r]);
  }
  if (whole < n) {
    for (int r = 0; r < kRows; ++r) {
      const V16 scaled = mul(load_tail(x + r * e.stride + whole, n - whole, 0.0f), factor);
      value[r] = max(fill_tail(scaled, n - whole, -HUGE_VALF), value[r]);
    }
  }
  V16 minus[kRows];
  for (int r = 0; r < kRows; ++r) {
    const float maximum = reduce_max(value[r]);
    e.maxima[row + r] = maximum;
    minus[r] = broadcast(-maximum);
    value[r] = broadcast(0.0f);
  }
  for (int64_t i = 0; i < whole; i += 16) {
    for (int r = 0; r < kRows; ++r) {
      float* p = x + r * e.stride + i;
      const V16 exponential = exp_of_negative(add(mul(load(p), factor), minus[r]));
      value[r] = add(value[r], exponential);
      store(exponential, p);
    }
  }
  if (whole < n) {
    for (int r = 0; r < kRows; ++r) {
      float* p = x + r * e.stride + whole;
      const V16 scaled = add(mul(load_tail(p, n - whole, 0.0f), factor), minus[r]);
      const V16 exponential = exp_of_negative(fill_tail(scaled, n - whole, -HUGE_VALF));
      value[r] = add(value[r], exponential);
      store_tail(exponential, p, n - whole);
    }
  }
  for (int r = 0; r < kRows; ++r) e.sums[row + r] = reduce_add(value[r]);
}

void exp_rows(const ExpRows& e) {
  constexpr int kTogether = kParts == 1 ? 4 : 2;
  int64_t row = 0;
  while (row < e.rows) {
    const int64_t equal = e.stagger > 0 ? std::min(e.rows, (row / e.stagger + 1) * e.stagger) : e.rows;
    for (; row + kTogether <= equal; row += kTogether) exp_equal_rows<kTogether>(e, row);
    if (kTogether > 3 && row + 3 <= equal) {
      exp_equal_rows<3>(e, row);
      row += 3;
    }
    if (row + 2 <= equal) {
      exp_equal_rows<2>(e, row);
      row += 2;
    }
    if (row < equal) exp_equal_rows<1>(e, row++);
  }
}

void sin_cos(const float* x, float factor, float scale, int64_t n, float* sine, float* cosine) {
  const V16 f = broadcast(factor), all = broadcast(scale), limit = broadcast(kMostAngle), none = broadcast(NAN);
  const auto of = [&](const V16& a) HWY_ATTR {
    const V16 angle = mul(a, f);
    const V16 known = select_less(mul(angle, angle), mul(limit, limit), angle, none);
    const SinCos result = sin_cos_lanes(known);
    return SinCos{mul(result.sine, all), mul(result.cosine, all)};
  };
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const SinCos result = of(load(x + i));
    store(result.sine, sine + i);
    store(result.cosine, cosine + i);
  }
  if (i == n) return;
  const SinCos result = of(load_tail(x + i, n - i, 0.0f));
  store_tail(result.sine, sine + i, n - i);
  store_tail(result.cosine, cosine + i, n - i);
}

void scale_row(const float* x, float factor, int64_t n, float* y) {
  const V16 f = broadcast(factor);
  map_row(x, n, y, [&](const V16& a) HWY_ATTR { return mul(a, f); });
}

void add_product(const float* a, const float* b, int64_t n, float* y) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) store(fma(load(a + i), load(b + i), load(y + i)), y + i);
  if (i < n) {
    const V16 sum = fma(load_tail(a + i, n - i, 0.0f), load_tail(b + i, n - i, 0.0f), load_tail(y + i, n - i, 0.0f));
    store_tail(sum, y + i, n - i);
  }
}

void add_scaled(const float* x, float factor, int64_t n, float* y) {
  const V16 f = broadcast(factor);
  map_rows(x, y, n, y, [&](const V16& a, const V16& b) HWY_ATTR { return fma(a, f, b); });
}

void multiply_scaled(const float* x, float factor, int64_t n, float* y) {
  const V16 f = broadcast(factor);
  map_rows(x, y, n, y, [&](const V16& a, const V16& b) HWY_ATTR { return mul(b, mul(a, f)); });
}

double log_sum_exp(const float* x, int64_t n) {
  const float greatest = max_row(x, n);
  if (!std::isfinite(greatest)) return greatest;
  const V16 minus = broadcast(-greatest);
  // 16 sums in double, each over the elements of its lane.
  double sums[16] = {};
  for (int64_t i = 0; i < n; i += 16) {
    const V16 shifted = i + 16 <= n ? load(x + i) : load_tail(x + i, n - i, -HUGE_VALF);
    float e[16];
    store(exp_lanes(add(shifted, minus)), e);
    for (int lane = 0; lane < 16; ++lane) sums[lane] += static_cast<double>(e[lane]);
  }
  for (int width = 8; width > 0; width /= 2) {
    for (int lane = 0; lane < width; ++lane) sums[lane] += sums[lane + width];
  }
  return static_cast<double>(greatest) + std::log(sums[0]);
}

void fill_rows_table(Kernels& kernels) {
  kernels.rms_norm = rms_norm;
  kernels.layer_norm = layer_norm;
  kernels.add = add_rows;
  kernels.activate = activate;
  kernels.activate_mul = activate_mul;
  kernels.rotate = rotate;
  kernels.exp_sum = exp_sum;
  kernels.exp_rows = exp_rows;
  kernels.sin_cos = sin_cos;
  kernels.max = max_row;
  kernels.dot = dot;
  kernels.scale = scale_row;
  kernels.add_product = add_product;
  kernels.add_scaled = add_scaled;
  kernels.multiply_scaled = multiply_scaled;
  kernels.log_sum_exp = log_sum_exp;
}

}  // namespace HWY_NAMESPACE
}  // namespace espalier
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace espalier {
ESPALIER_FILL_TABLE(fill_rows, fill_rows_table)
}  // namespace espalier
#endif
