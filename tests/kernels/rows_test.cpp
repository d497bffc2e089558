// Row kernels: f64 loops within rounding, one result on every instruction set bit for bit, any length and alignment,
// nothing read or written outside.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>

#include "core/aligned.h"
#include "core/rng.h"
#include "kernels/kernels.h"

namespace espalier {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
const int64_t kLengths[] = {1, 2, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 576, 577};

// n floats at `offset` from a 64-byte border, NaN around them.
class Row {
 public:
  Row(int64_t n, int64_t offset) : n_(n), offset_(offset), memory_(static_cast<size_t>(n + offset + 32)) {
    std::fill_n(memory_.data(), memory_.size(), kNan);
  }
  Row(int64_t n, int64_t offset, Random& random, float scale = 1.0f) : Row(n, offset) {
    for (int64_t i = 0; i < n; ++i) data()[i] = random.normal() * scale;
  }
  float* data() { return memory_.data() + offset_; }
  float operator[](int64_t i) const { return memory_.data()[offset_ + i]; }
  bool outside_is_untouched() const {
    for (int64_t i = 0; i < static_cast<int64_t>(memory_.size()); ++i) {
      if ((i < offset_ || i >= offset_ + n_) && !std::isnan(memory_.data()[i])) return false;
    }
    return true;
  }
  std::vector<float> values() const { return {memory_.data() + offset_, memory_.data() + offset_ + n_}; }

 private:
  int64_t n_, offset_;
  AlignedBuffer<float> memory_;
};

// y[i] within `tolerance` of `expected`, relative to 1 or the value.
using Run = std::function<void(const Kernels&, Row& a, Row& b, Row& y, int64_t n)>;
using Exact = std::function<double(const Row& a, const Row& b, int64_t i, int64_t n)>;

void check(const Run& run, const Exact& exact, double tolerance, float scale = 1.0f) {
  for (const int64_t n : kLengths) {
    for (const int64_t offset : {int64_t{0}, int64_t{1}, int64_t{5}}) {
      std::vector<float> first;
      for (const Isa isa : supported_isas()) {
        Random random(static_cast<uint64_t>(n)), again(static_cast<uint64_t>(n));
        Row a(n, offset, random, scale), b(n, offset, random, scale), y(n, offset);
        const Row old_a(n, offset, again, scale), old_b(n, offset, again, scale);
        run(kernels_for(isa), a, b, y, n);
        EXPECT_TRUE(y.outside_is_untouched()) << isa_name(isa) << " n=" << n;
        for (int64_t i = 0; i < n; ++i) {
          const double expected = exact(old_a, old_b, i, n);
          ASSERT_NEAR(y[i], expected, tolerance * std::max(1.0, std::abs(expected))) << isa_name(isa) << " n=" << n;
        }
        if (first.empty()) first = y.values();
        ASSERT_EQ(std::memcmp(first.data(), y.values().data(), first.size() * sizeof(float)), 0)
            << isa_name(isa) << " n=" << n;
      }
    }
  }
}

TEST(Rows, RmsNorm) {
  check([](const Kernels& k, Row& a, Row& b, Row& y, int64_t n) { k.rms_norm(a.data(), b.data(), 1e-5, n, y.data()); },
        [](const Row& a, const Row& b, int64_t i, int64_t n) {
          double sum = 0;
          for (int64_t j = 0; j < n; ++j) sum += double{a[j]} * a[j];
          return a[i] / std::sqrt(sum / static_cast<double>(n) + 1e-5) * b[i];
        },
        1e-6);
}

TEST(Rows, LayerNorm) {
  check(
      [](const Kernels& k, Row& a, Row& b, Row& y, int64_t n) {
        const std::vector<float> bias(static_cast<size_t>(n), 0.25f);
        k.layer_norm(a.data(), b.data(), bias.data(), 1e-5, n, y.data());
      },
      [](const Row& a, const Row& b, int64_t i, int64_t n) {
        double mean = 0, variance = 0;
        for (int64_t j = 0; j < n; ++j) mean += a[j] / static_cast<double>(n);
        for (int64_t j = 0; j < n; ++j) variance += (a[j] - mean) * (a[j] - mean) / static_cast<double>(n);
        return (a[i] - mean) / std::sqrt(variance + 1e-5) * b[i] + 0.25;
      },
      1e-5);
}

TEST(Rows, AddScaleAndAddScaled) {
  check([](const Kernels& k, Row& a, Row& b, Row& y, int64_t n) { k.add(a.data(), b.data(), n, y.data()); },
        [](const Row& a, const Row& b, int64_t i, int64_t) { return double{a[i]} + b[i]; }, 1e-7);
  check([](const Kernels& k, Row& a, Row&, Row& y, int64_t n) { k.scale(a.data(), -0.7f, n, y.data()); },
        [](const Row& a, const Row&, int64_t i, int64_t) { return double{a[i]} * -0.7f; }, 1e-7);
  check(
      [](const Kernels& k, Row& a, Row& b, Row& y, int64_t n) {
        std::copy_n(b.data(), n, y.data());
        k.add_scaled(a.data(), 1.3f, n, y.data());
      },
      [](const Row& a, const Row& b, int64_t i, int64_t) { return double{a[i]} * 1.3f + b[i]; }, 1e-7);
  check(
      [](const Kernels& k, Row& a, Row& b, Row& y, int64_t n) {
        std::copy_n(b.data(), n, y.data());
        k.add_product(a.data(), b.data(), n, y.data());
      },
      [](const Row& a, const Row& b, int64_t i, int64_t) { return double{a[i]} * b[i] + b[i]; }, 1e-7);
  check(
      [](const Kernels& k, Row& a, Row& b, Row& y, int64_t n) {
        std::copy_n(b.data(), n, y.data());
        k.multiply_scaled(a.data(), 1.3f, n, y.data());
      },
      [](const Row& a, const Row& b, int64_t i, int64_t) { return double{b[i]} * (double{a[i]} * 1.3f); }, 2e-7);
}

TEST(Rows, Activations) {
  const std::pair<Activation, std::function<double(double)>> activations[] = {
      {Activation::kSilu, [](double x) { return x / (1.0 + std::exp(-x)); }},
      {Activation::kGelu, [](double x) { return x * std::erfc(-x / std::sqrt(2.0)) / 2; }},
      {Activation::kGeluTanh,
       [](double x) { return x * (1.0 + std::tanh(std::sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x))) / 2; }},
      {Activation::kRelu, [](double x) { return std::max(x, 0.0); }},
      {Activation::kReluSquared, [](double x) { return std::max(x, 0.0) * std::max(x, 0.0); }},
      {Activation::kTanh, [](double x) { return std::tanh(x); }},
      {Activation::kSigmoid, [](double x) { return 1.0 / (1.0 + std::exp(-x)); }},
      {Activation::kSoftplus, [](double x) { return std::log1p(std::exp(x)); }},
      {Activation::kLaplace, [](double x) { return 0.5 * std::erfc((std::sqrt(0.5) - x) * std::sqrt(2.0 * M_PI)); }},
  };
  for (const auto& [f, exact] : activations) {
    for (const float scale : {1.0f, 30.0f, 300.0f}) {  // exp over- and underflows
      check([&](const Kernels& k, Row& a, Row&, Row& y, int64_t n) { k.activate(f, a.data(), n, y.data()); },
            [&](const Row& a, const Row&, int64_t i, int64_t) { return exact(a[i]); }, 2e-6, scale);
      check([&](const Kernels& k, Row& a, Row& b, Row& y,
                int64_t n) { k.activate_mul(f, a.data(), b.data(), n, y.data()); },
            [&](const Row& a, const Row& b, int64_t i, int64_t) { return exact(a[i]) * b[i]; }, 2e-6, scale);
    }
  }
}

TEST(Rows, GeluIsZeroWhereItVanishes) {
  for (const Isa isa : supported_isas()) {
    for (const Activation f : {Activation::kGelu, Activation::kGeluTanh}) {
      const float x[3] = {-40.0f, 40.0f, 0.0f};
      float y[3];
      kernels_for(isa).activate(f, x, 3, y);
      EXPECT_NEAR(y[0], 0.0f, 1e-6f);
      EXPECT_EQ(y[1], 40.0f);
      EXPECT_EQ(y[2], 0.0f);
    }
  }
}

TEST(Rows, RotateTurnsHalves) {
  for (const int64_t n : {int64_t{2}, int64_t{6}, int64_t{16}, int64_t{20}, int64_t{64}, int64_t{128}, int64_t{130}}) {
    std::vector<float> first;
    for (const Isa isa : supported_isas()) {
      Random random(9);
      Row x(n, 1, random), angle(n / 2, 3, random), cosine(n / 2, 3), sine(n / 2, 3);
      for (int64_t i = 0; i < n / 2; ++i) {
        cosine.data()[i] = std::cos(angle[i]);
        sine.data()[i] = std::sin(angle[i]);
      }
      const std::vector<float> before = x.values();
      kernels_for(isa).rotate(x.data(), cosine.data(), sine.data(), n);
      EXPECT_TRUE(x.outside_is_untouched());
      for (int64_t i = 0; i < n / 2; ++i) {
        const double a = before[i], b = before[i + n / 2], c = cosine[i], s = sine[i];
        ASSERT_NEAR(x[i], a * c - b * s, 1e-6);
        ASSERT_NEAR(x[i + n / 2], b * c + a * s, 1e-6);
      }
      if (first.empty()) first = x.values();
      EXPECT_EQ(first, x.values());
    }
  }
}

// A reduction: one number, and its bits on every instruction set.
void check_number(const std::function<double(const Kernels&, Row& a, Row& b, Row& y, int64_t n)>& run,
                  const std::function<double(const Row& a, const Row& b, int64_t n)>& exact, double tolerance) {
  for (const int64_t n : kLengths) {
    double first = kNan;
    for (const Isa isa : supported_isas()) {
      Random random(static_cast<uint64_t>(n));
      Row a(n, 1, random, 3.0f), b(n, 2, random), y(n, 3);
      const double got = run(kernels_for(isa), a, b, y, n), expected = exact(a, b, n);
      EXPECT_NEAR(got, expected, tolerance * std::max(1.0, std::abs(expected))) << isa_name(isa) << " n=" << n;
      if (std::isnan(first)) first = got;
      EXPECT_EQ(got, first) << isa_name(isa) << " n=" << n;
    }
  }
}

TEST(Rows, Reductions) {
  check_number([](const Kernels& k, Row& a, Row& b, Row&, int64_t n) { return k.dot(a.data(), b.data(), n); },
               [](const Row& a, const Row& b, int64_t n) {
                 double sum = 0;
                 for (int64_t i = 0; i < n; ++i) sum += double{a[i]} * b[i];
                 return sum;
               },
               1e-5);
  check_number([](const Kernels& k, Row& a, Row&, Row&, int64_t n) { return k.max(a.data(), n); },
               [](const Row& a, const Row&, int64_t n) {
                 double max = a[0];
                 for (int64_t i = 0; i < n; ++i) max = std::max(max, double{a[i]});
                 return max;
               },
               0.0);
  const auto sum_exp = [](const Row& a, double shift, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; ++i) sum += std::exp(a[i] - shift);
    return sum;
  };
  check_number([](const Kernels& k, Row& a, Row&, Row& y, int64_t n) { return k.exp_sum(a.data(), 5.0f, n, y.data()); },
               [&](const Row& a, const Row&, int64_t n) { return sum_exp(a, 5.0, n); }, 1e-6);
  check_number([](const Kernels& k, Row& a, Row&, Row&, int64_t n) { return k.log_sum_exp(a.data(), n); },
               [&](const Row& a, const Row&, int64_t n) { return std::log(sum_exp(a, 0.0, n)); }, 1e-6);
}

// Rows in one call, staggered or not: the exponentials of a plain loop within rounding, and the bits that a row has
// alone, by max and exp_sum, on every instruction set.
TEST(Rows, ExponentialsOfRowsTogether) {
  for (const int64_t n : {int64_t{0}, int64_t{1}, int64_t{15}, int64_t{16}, int64_t{17}, int64_t{64}, int64_t{77}}) {
    for (int64_t rows = 0; rows <= 9; ++rows) {
      for (const int64_t stagger : {int64_t{0}, int64_t{1}, int64_t{3}}) {
        const float factor = stagger == 1 ? 1.0f : 0.37f;
        const int64_t longest = n + (stagger > 0 ? std::max<int64_t>(rows - 1, 0) / stagger : 0), stride = longest + 3;
        std::vector<float> first;
        for (const Isa isa : supported_isas()) {
          const Kernels& k = kernels_for(isa);
          Random random(static_cast<uint64_t>(n + rows));
          Row x(rows * stride, 1, random, 4.0f);
          const std::vector<float> before = x.values();
          std::vector<float> maxima(static_cast<size_t>(rows), kNan), sums = maxima;
          k.exp_rows({.x = x.data(),
                      .stride = stride,
                      .rows = rows,
                      .count = n,
                      .stagger = stagger,
                      .factor = factor,
                      .maxima = maxima.data(),
                      .sums = sums.data()});
          EXPECT_TRUE(x.outside_is_untouched());
          for (int64_t r = 0; r < rows; ++r) {
            const auto row = static_cast<size_t>(r);
            const int64_t count = n + (stagger > 0 ? r / stagger : 0);
            const float* own = before.data() + r * stride;
            std::vector<float> scaled(static_cast<size_t>(count)), alone(scaled);
            k.scale(own, factor, count, scaled.data());
            const float maximum = k.max(scaled.data(), count);
            ASSERT_EQ(maxima[row], maximum);
            ASSERT_EQ(sums[row], k.exp_sum(scaled.data(), maximum, count, alone.data()));
            double sum = 0;
            for (int64_t i = 0; i < count; ++i) {
              const double expected = std::exp(double{own[i] * factor} - maximum);
              sum += expected;
              ASSERT_NEAR(x[r * stride + i], expected, 1e-6) << isa_name(isa) << " n=" << n << " rows=" << rows;
              ASSERT_EQ(x[r * stride + i], alone[static_cast<size_t>(i)]);
            }
            ASSERT_NEAR(sums[row], sum, 1e-5 * std::max(1.0, sum));
            for (int64_t i = count; i < stride; ++i) ASSERT_EQ(x[r * stride + i], own[i]);
          }
          if (first.empty()) first = x.values();
          ASSERT_EQ(first, x.values()) << isa_name(isa);
        }
      }
    }
  }
}

TEST(Rows, SinesAndCosines) {
  const double scale = 3.0;
  for (const float size : {1.0f, 30.0f, 2000.0f}) {
    for (const bool cosine : {false, true}) {
      const auto run = [&](const Kernels& k, Row& a, Row&, Row& y, int64_t n) {
        std::vector<float> other(static_cast<size_t>(n));
        float *sines = y.data(), *cosines = other.data();
        if (cosine) std::swap(sines, cosines);
        k.sin_cos(a.data(), 0.37f, static_cast<float>(scale), n, sines, cosines);
      };
      const auto exact = [&](const Row& a, const Row&, int64_t i, int64_t) {
        const double angle = a[i] * 0.37f;  // rounded to f32
        return scale * (cosine ? std::cos(angle) : std::sin(angle));
      };
      check(run, exact, 5e-7, size);
    }
  }
  for (const Isa isa : supported_isas()) {
    const float beyond[] = {20000.0f, -20000.0f, kNan, 0.0f};
    float sine[4], cosine[4];
    kernels_for(isa).sin_cos(beyond, 1.0f, 1.0f, 4, sine, cosine);
    for (int i = 0; i < 3; ++i) EXPECT_TRUE(std::isnan(sine[i]) && std::isnan(cosine[i])) << isa_name(isa);
    EXPECT_EQ(sine[3], 0.0f);
    EXPECT_EQ(cosine[3], 1.0f);
  }
}

TEST(Rows, EdgesOfMaxAndExp) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const Isa isa : supported_isas()) {
    const Kernels& k = kernels_for(isa);
    const float values[] = {-kInfinity, kNan, -2.0f, 88.9f, -104.0f, 0.0f};
    float out[6];
    EXPECT_EQ(k.max(values, 0), -kInfinity);
    EXPECT_EQ(k.exp_sum(values, 0.0f, 0, out), 0.0f);
    EXPECT_EQ(k.max(values, 3), -2.0f);  // NaN is ignored
    k.exp_sum(values, 0.0f, 1, out);
    EXPECT_EQ(out[0], 0.0f);
    k.exp_sum(values + 5, 0.0f, 1, out);
    EXPECT_EQ(out[0], 1.0f);
  }
}

}  // namespace
}  // namespace espalier
