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

void silu_mul(const float* gate, const float* up, int64_t n, float* y) {
  const V16 one = broadcast(1.0f), minus = broadcast(-1.0f);
  map_rows(gate, up, n, y,
           [&](const V16& g, const V16& u) HWY_ATTR { return mul(div(g, add(one, exp_lanes(mul(g, minus)))), u); });
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

void scale_row(const float* x, float factor, int64_t n, float* y) {
  const V16 f = broadcast(factor);
  map_row(x, n, y, [&](const V16& a) HWY_ATTR { return mul(a, f); });
}

void add_scaled(const float* x, float factor, int64_t n, float* y) {
  const V16 f = broadcast(factor);
  map_rows(x, y, n, y, [&](const V16& a, const V16& b) HWY_ATTR { return fma(a, f, b); });
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
  kernels.add = add_rows;
  kernels.silu_mul = silu_mul;
  kernels.rotate = rotate;
  kernels.exp_sum = exp_sum;
  kernels.max = max_row;
  kernels.dot = dot;
  kernels.scale = scale_row;
  kernels.add_scaled = add_scaled;
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
