// Products: f64 within rounding; every instruction set, row count, thread count and chunk gives the same bits (AMX's
// sums of bf16 their own); strided rows with NaN between them.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "core/half.h"
#include "core/rng.h"
#include "kernels/packed_matrix.h"
#include "kernels/quantized.h"

namespace espalier {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

float bf16(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  bits = (bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff0000u;
  std::memcpy(&x, &bits, 4);
  return x;
}

std::vector<float> normal(Random& random, int64_t n) {
  std::vector<float> x(static_cast<size_t>(n));
  for (float& value : x) value = random.normal();
  return x;
}

struct Product {
  int64_t inputs;
  std::vector<int64_t> outputs;  // of several matrices
};
const Product kProducts[] = {{1, {1}},        {2, {16}},           {3, {17, 5}},    {16, {48}},
                             {47, {33}},      {64, {15, 16, 17}},  {96, {200}},     {255, {64, 7}},
                             {576, {192, 3}}, {130, {1, 2, 3, 4}}, {1537, {40, 24}}};
const int64_t kRows[] = {100, 0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15,
                         16,  17, 18, 19, 20, 21, 22, 23, 24, 25, 31, 33, 48, 49, 63, 64, 65};

class Products : public ::testing::TestWithParam<WeightType> {};
INSTANTIATE_TEST_SUITE_P(All, Products,
                         ::testing::Values(WeightType::kF32, WeightType::kBf16, WeightType::kInt8, WeightType::kInt4,
                                           WeightType::kInt4Min),
                         [](const auto& info) {
                           std::string name(weight_type_name(info.param));
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

bool is_quantized(WeightType type) {
  return type != WeightType::kF32 && type != WeightType::kBf16;
}

// A row as quantized weights meet it: groups of 32 in steps of their greatest size / 127.
std::vector<double> rounded_row(const float* x, int64_t n) {
  std::vector<double> y(x, x + n);
  for (int64_t first = 0; first < n; first += 32) {
    const int64_t end = std::min(n, first + 32);
    float greatest = 0;
    for (int64_t i = first; i < end; ++i) greatest = std::max(greatest, std::abs(x[i]));
    for (int64_t i = first; i < end && greatest > 0; ++i) {
      y[static_cast<size_t>(i)] = std::nearbyint(x[i] * (127.0f / greatest)) * (greatest / 127.0f);
    }
  }
  return y;
}

TEST_P(Products, EqualF64LoopsAndEachOther) {
  const bool half = GetParam() == WeightType::kBf16;
  for (const Product& product : kProducts) {
    Random random(static_cast<uint64_t>(product.inputs));
    std::vector<std::vector<float>> weights;
    std::vector<PackedMatrix> packed;
    WeightMemory memory;
    for (const int64_t outputs : product.outputs) {
      weights.push_back(normal(random, outputs * product.inputs));
      packed.emplace_back(weights.back().data(), outputs, product.inputs, GetParam(), memory);
    }
    const std::vector<float> x = normal(random, 100 * product.inputs);
    if (is_quantized(GetParam())) {  // what the weights are rounded to is tried below
      for (size_t m = 0; m < packed.size(); ++m) {
        for (int64_t o = 0; o < product.outputs[m]; ++o) packed[m].row(o, weights[m].data() + o * product.inputs);
      }
    }
    std::vector<std::vector<float>>
        firsts[2];  // of an order of sums, a matrix: [row 0.. of the largest count, outputs]
    for (auto& of_order : firsts) of_order.resize(weights.size());
    for (const int64_t rows : kRows) {
      const int64_t x_stride = product.inputs + rows % 3;
      std::vector<float> strided(static_cast<size_t>(rows * x_stride + 1), kNan);
      for (int64_t r = 0; r < rows; ++r) {
        std::copy_n(x.data() + r * product.inputs, product.inputs, strided.data() + 1 + r * x_stride);
      }
      for (const Isa isa : supported_isas()) {
        auto& first = firsts[half && isa == Isa::kAmx];
        for (const int threads : {1, 3}) {
          ThreadPool pool(threads);
          Arena arena;
          std::fill_n(arena.floats(1 << 20), 1 << 20, kNan);
          arena.reset();
          std::vector<std::vector<float>> y;
          std::vector<OutputRows> out;
          std::vector<const PackedMatrix*> matrices;
          for (size_t m = 0; m < packed.size(); ++m) {
            const int64_t stride = product.outputs[m] + 3;
            y.emplace_back(static_cast<size_t>(rows * stride + 1), 77.0f);
            matrices.push_back(&packed[m]);
          }
          for (size_t m = 0; m < packed.size(); ++m) out.push_back({y[m].data(), product.outputs[m] + 3});
          multiply(kernels_for(isa), pool, arena, matrices, strided.data() + 1, rows, x_stride, out);
          for (size_t m = 0; m < packed.size(); ++m) {
            const int64_t outputs = product.outputs[m], stride = outputs + 3;
            if (first[m].empty()) {
              for (int64_t r = 0; r < rows; ++r) {
                const std::vector<double> rounded = rounded_row(x.data() + r * product.inputs, product.inputs);
                for (int64_t o = 0; o < outputs; ++o) {
                  double sum = 0, size = 1;
                  for (int64_t i = 0; i < product.inputs; ++i) {
                    const float a = x[r * product.inputs + i], w = weights[m][o * product.inputs + i];
                    sum += is_quantized(GetParam()) ? rounded[static_cast<size_t>(i)] * w
                           : half                   ? double{bf16(a)} * bf16(w)
                                                    : double{a} * w;
                    size += std::abs(double{a} * w);
                  }
                  ASSERT_NEAR(y[m][r * stride + o], sum, 1e-6 * size);
                  first[m].push_back(y[m][r * stride + o]);
                }
              }
            }
            for (int64_t r = 0; r < rows; ++r) {
              ASSERT_EQ(std::memcmp(&y[m][r * stride], &first[m][r * outputs], outputs * sizeof(float)), 0)
                  << isa_name(isa) << " rows " << rows << " row " << r << " threads " << threads << " inputs "
                  << product.inputs;
              for (int64_t o = outputs; o < stride; ++o) ASSERT_EQ(y[m][r * stride + o], 77.0f) << "written too far";
            }
          }
        }
      }
    }
  }
}

// A product as each instruction set adds it up.
float pairs_sum(const std::vector<float>& x, const std::vector<float>& w) {
  float sum = 0;
  for (size_t k = 0; k < x.size(); k += 2) sum = std::fma(x[k], w[k], std::fma(x[k + 1], w[k + 1], sum));
  return sum;
}
float blocks_sum(const std::vector<float>& x, const std::vector<float>& w) {
  float sum = 0;
  for (size_t begin = 0; begin < x.size(); begin += 32) {
    float even = 0, odd = 0;
    for (size_t k = begin; k < std::min(x.size(), begin + 32); k += 2) {
      even = std::fma(x[k], w[k], even);
      odd = std::fma(x[k + 1], w[k + 1], odd);
    }
    sum += even + odd;
  }
  return sum;
}

TEST(Bf16, IsAddedUpAsTheInstructionsDo) {
  for (const int64_t inputs : {2, 30, 32, 34, 64, 576, 1538, 5000}) {
    const int64_t most_rows = inputs <= 64 ? 300 : 41;
    constexpr int64_t kOutputs = 19;
    Random random(static_cast<uint64_t>(inputs));
    std::vector<float> x = normal(random, most_rows * inputs), w = normal(random, kOutputs * inputs);
    for (float& value : x) value = bf16(value * std::exp(3 * random.normal()));
    for (float& value : w) value = bf16(value);
    WeightMemory memory;
    const PackedMatrix packed(w.data(), kOutputs, inputs, WeightType::kBf16, memory);
    const PackedMatrix* const matrices[] = {&packed};
    for (const Isa isa : supported_isas()) {
      for (const int64_t rows : {int64_t{1}, most_rows, most_rows - 30}) {
        ThreadPool pool(2);
        Arena arena;
        std::vector<float> y(static_cast<size_t>(rows * kOutputs));
        const OutputRows out[] = {{y.data(), kOutputs}};
        multiply(kernels_for(isa), pool, arena, matrices, x.data(), rows, inputs, out);
        for (int64_t r = 0; r < rows; ++r) {
          for (int64_t o = 0; o < kOutputs; ++o) {
            const std::vector<float> row(&x[r * inputs], &x[r * inputs] + inputs);
            const std::vector<float> weights(&w[o * inputs], &w[o * inputs] + inputs);
            ASSERT_EQ(y[r * kOutputs + o], isa == Isa::kAmx ? blocks_sum(row, weights) : pairs_sum(row, weights))
                << isa_name(isa) << " inputs " << inputs << " row " << r << " of " << rows << " output " << o;
          }
        }
      }
    }
  }
}

TEST_P(Products, PackedInPiecesIsPackedWhole) {
  Random random(3);
  const std::vector<float> weights = normal(random, 50 * 37);
  WeightMemory memory;
  const PackedMatrix whole(weights.data(), 50, 37, GetParam(), memory);
  PackedMatrix pieces = PackedMatrix::empty(50, 37, GetParam(), memory);
  pieces.pack_rows(weights.data() + 32 * 37, 32, 18);
  pieces.pack_rows(weights.data(), 0, 32);
  ASSERT_EQ(whole.bytes(), pieces.bytes());
  EXPECT_EQ(std::memcmp(whole.data(), pieces.data(), static_cast<size_t>(whole.bytes())), 0);
  std::vector<float> row(37);
  for (int64_t o = 0; o < 50; ++o) {
    whole.row(o, row.data());
    for (int64_t i = 0; i < 37; ++i) {
      const float weight = weights[o * 37 + i];
      if (is_quantized(GetParam())) {
        ASSERT_NEAR(row[i], weight, GetParam() == WeightType::kInt8 ? 0.02 : 0.5);
      } else {
        ASSERT_EQ(row[i], GetParam() == WeightType::kBf16 ? bf16(weight) : weight);
      }
    }
  }
}

// Groups that are of the format already come back bit for bit; others lose at most a share that their steps explain.
TEST(Quantized, GroupsKeepWhatTheyCanHold) {
  Random random(5);
  const struct {
    QuantizedFormat format;
    double error;  // of the root mean square
  } formats[] = {{kInt8Format, 0.01}, {kInt4Format, 0.11}, {kInt4MinFormat, 0.10}};
  for (const auto& [format, most] : formats) {
    double error = 0, size = 0;
    for (int i = 0; i < 500; ++i) {
      const std::vector<float> x = normal(random, kScaleGroup);
      const QuantizedGroup group = quantize_group(format, x.data(), kScaleGroup);
      float exact[kScaleGroup];
      for (int64_t k = 0; k < kScaleGroup; ++k) {
        exact[k] = group.value(format, k);
        error += std::pow(double{exact[k]} - x[static_cast<size_t>(k)], 2);
        size += double{x[static_cast<size_t>(k)]} * x[static_cast<size_t>(k)];
      }
    }
    EXPECT_LT(std::sqrt(error / size), most) << format.bits << (format.minimum ? " with minima" : "");
    for (int i = 0; i < 500; ++i) {  // as other programs write them: all steps are used
      QuantizedGroup group;
      group.d = float_to_half(0.01f + 0.1f * std::abs(random.normal()));
      group.m = format.minimum ? float_to_half(random.normal()) : 0;
      for (uint8_t& q : group.q) q = static_cast<uint8_t>(format.bits == 8 ? 1 + random.below(255) : random.below(16));
      group.q[3] = static_cast<uint8_t>(format.bits == 8 ? 255 : 0);
      group.q[17] = static_cast<uint8_t>(format.bits == 8 ? 1 : 15);
      float x[kScaleGroup];
      for (int64_t k = 0; k < kScaleGroup; ++k) x[k] = group.value(format, k);
      const QuantizedGroup again = quantize_group(format, x, kScaleGroup);
      for (int64_t k = 0; k < kScaleGroup; ++k)
        ASSERT_EQ(again.value(format, k), x[k]) << format.bits << " group " << i;
    }
  }
  for (const QuantizedFormat& format : {kInt8Format, kInt4Format, kInt4MinFormat}) {
    // Groups that no scale can stand for are not numbers, and do not pass for zeros.
    for (const float odd : {kNan, std::numeric_limits<float>::infinity(), 1e38f}) {
      float x[kScaleGroup] = {1.0f, -2.0f};
      x[9] = odd;
      const QuantizedGroup group = quantize_group(format, x, kScaleGroup);
      EXPECT_FALSE(std::isfinite(group.value(format, 0)) && std::isfinite(group.value(format, 9))) << odd;
    }
    if (format.bits == 8) {  // scales among half precision's smallest numbers are coarse, but clip nothing
      for (float size = 1e-5f; size < 1e-2f; size *= 1.7f) {
        const float x[2] = {size, -0.5f * size};
        EXPECT_NEAR(quantize_group(format, x, 2).value(format, 0), size, 0.07 * size) << size;
      }
    }
    const float zeros[kScaleGroup] = {}, one[1] = {-3.5f};
    EXPECT_EQ(quantize_group(format, zeros, kScaleGroup).value(format, 7), 0.0f);
    EXPECT_NEAR(quantize_group(format, one, 1).value(format, 0), -3.5, 0.01);
  }
}

// The least squared error that five ranges, each bettered three times by least squares, come to: plainly, in doubles.
double searched_error(const QuantizedFormat& format, const std::vector<float>& x) {
  const auto [low, high] = std::minmax_element(x.begin(), x.end());
  double least = std::numeric_limits<double>::infinity();
  for (const double share : {1.0, 0.95, 0.9, 0.85, 0.8}) {
    double d = format.minimum ? (*high - *low) * share / 15 : (-*low > *high ? *low : *high) * share / -8;
    double m = *low + (*high - *low) * (1 - share) / 2;
    for (int round = 0; round < 4; ++round) {
      d = half_to_float(float_to_half(static_cast<float>(d)));
      m = format.minimum ? half_to_float(float_to_half(static_cast<float>(m))) : 0;
      double error = 0, q_sum = 0, qq = 0, x_sum = 0, xq = 0;
      for (const float value : x) {
        const double q = std::clamp(std::nearbyint((value - m) / d), -1.0 * format.zero, 15.0 - format.zero);
        error += std::pow(d * q + m - value, 2);
        q_sum += q, qq += q * q, x_sum += value, xq += q * value;
      }
      least = std::min(least, error);
      if (!format.minimum) {
        d = xq / qq;
      } else {
        d = (kScaleGroup * xq - q_sum * x_sum) / (kScaleGroup * qq - q_sum * q_sum);
        m = (x_sum - d * q_sum) / kScaleGroup;
      }
    }
  }
  return least;
}

TEST(Quantized, GroupsHaveTheErrorOfThePlainSearch) {
  Random random(11);
  for (const QuantizedFormat& format : {kInt4Format, kInt4MinFormat}) {
    for (int i = 0; i < 2000; ++i) {
      const std::vector<float> x = normal(random, kScaleGroup);
      float error = 0;
      const QuantizedGroup group = quantize_group(format, x.data(), kScaleGroup, &error);
      double own = 0;
      for (int64_t k = 0; k < kScaleGroup; ++k) own += std::pow(group.value(format, k) - x[static_cast<size_t>(k)], 2);
      ASSERT_NEAR(error, own, 1e-5 * own);
      ASSERT_NEAR(own, searched_error(format, x), 1e-3 * own) << format.minimum << " group " << i;
    }
  }
}

// Sums of the greatest weights and inputs that there are, of one sign and of both: what instructions with sums of 16
// bits could cut off.
TEST(Quantized, SumsOfExtremesAreWhole) {
  constexpr int64_t kOutputs = 19, kInputs = 160, kRows = 13;
  constexpr float kScale = 0.5f, kLeast = -1.25f;
  const struct {
    WeightType type;
    QuantizedFormat format;
    int low, high;
  } types[] = {{WeightType::kInt8, kInt8Format, 1, 255},
               {WeightType::kInt4, kInt4Format, 0, 15},
               {WeightType::kInt4Min, kInt4MinFormat, 0, 15}};
  const auto positive = [](int64_t pattern, int64_t k) {  // all, none, every other, every other pair, the first half
    return pattern % 5 == 0 || (pattern % 5 == 2 && k % 2 == 0) || (pattern % 5 == 3 && k % 4 < 2) ||
           (pattern % 5 == 4 && k % kScaleGroup < kScaleGroup / 2);
  };
  for (const auto& [type, format, low, high] : types) {
    const float least = format.minimum ? kLeast : 0.0f;
    const auto q_of = [&](int64_t o, int64_t k) { return positive(o, k) ? high : low; };
    std::vector<float> weights, x;
    for (int64_t o = 0; o < kOutputs; ++o) {
      for (int64_t k = 0; k < kInputs; ++k) {
        weights.push_back(kScale * static_cast<float>(q_of(o, k) - format.zero) + least);
      }
    }
    for (int64_t r = 0; r < kRows; ++r) {
      for (int64_t k = 0; k < kInputs; ++k) x.push_back(positive(r, k) ? 1.0f : -1.0f);
    }
    WeightMemory memory;
    const PackedMatrix matrix(weights.data(), kOutputs, kInputs, type, memory);
    const PackedMatrix* const matrices[] = {&matrix};
    for (const Isa isa : supported_isas()) {
      ThreadPool pool(1);
      Arena arena;
      std::vector<float> y(kRows * kOutputs), row(kInputs);
      const OutputRows out[] = {{y.data(), kOutputs}};
      multiply(kernels_for(isa), pool, arena, matrices, x.data(), kRows, kInputs, out);
      for (int64_t o = 0; o < kOutputs; ++o) {
        matrix.row(o, row.data());
        for (int64_t k = 0; k < kInputs; ++k) ASSERT_NEAR(row[k], weights[o * kInputs + k], 0.35);
        for (int64_t r = 0; r < kRows; ++r) {
          double sum = 0;
          for (int64_t k = 0; k < kInputs; ++k) sum += double{row[k]} * x[r * kInputs + k];
          ASSERT_NEAR(y[r * kOutputs + o], sum, 2e-3)
              << weight_type_name(type) << " " << isa_name(isa) << " row " << r << " output " << o;
        }
      }
    }
  }
}

// A row that is not finite gives NaN where it counts, and rows of zeros or of the smallest numbers give zeros.
TEST(Quantized, RowsThatAreNotFiniteAndRowsOfNothing) {
  WeightMemory memory;
  Random random(9);
  const std::vector<float> weights = normal(random, 20 * 70);
  for (const WeightType type : {WeightType::kInt8, WeightType::kInt4, WeightType::kInt4Min}) {
    const PackedMatrix matrix(weights.data(), 20, 70, type, memory);
    for (const float odd : {std::numeric_limits<float>::infinity(), kNan, 0.0f, 1e-40f, -1e-33f}) {
      std::vector<float> x(70, 0.0f), y(20, 77.0f);
      x[33] = odd;
      for (const Isa isa : supported_isas()) {
        ThreadPool pool(1);
        Arena arena;
        const PackedMatrix* matrices[] = {&matrix};
        const OutputRows out[] = {{y.data(), 20}};
        multiply(kernels_for(isa), pool, arena, matrices, x.data(), 1, 70, out);
        for (const float value : y) {
          if (std::isfinite(odd)) {
            ASSERT_EQ(value, 0.0f) << isa_name(isa);
          } else {
            ASSERT_TRUE(std::isnan(value)) << isa_name(isa);
          }
        }
      }
    }
  }
}

// Groups of a row are packed some at a time: an odd one must not change those beside it.
TEST(Quantized, PackedRowsAreTheDefinitionsGroupByGroup) {
  constexpr int64_t kCount = 3, kApart = 401;
  Random random(10);
  for (const int64_t inputs : {1, 31, 32, 33, 64, 96, 127, 128, 129, 192, 256, 320, 400}) {
    const int64_t bytes = quantized_row_bytes(inputs);
    for (const float odd : {1.0f, std::numeric_limits<float>::infinity(), kNan, 0.0f, 1e-40f, 1e38f}) {
      for (int64_t group = 0; group * kScaleGroup < inputs; ++group) {
        std::vector<float> x = normal(random, kCount * kApart);
        std::fill_n(x.begin() + kApart + group * kScaleGroup, std::min(kScaleGroup, inputs - group * kScaleGroup), odd);
        for (const Isa isa : supported_isas()) {
          const Kernels& kernels = kernels_for(isa);
          const std::pair<const Gemm&, const QuantizedFormat&> products[] = {{kernels.gemm_int8, kInt8Format},
                                                                             {kernels.gemm_int4, kInt4Format},
                                                                             {kernels.gemm_int4_min, kInt4MinFormat}};
          for (const auto& [gemm, format] : products) {
            std::vector<char> expected(static_cast<size_t>(kCount * bytes + 256), 0x5a), got = expected;
            quantize_rows(format, x.data(), kApart, kCount, inputs, bytes, expected.data());
            ASSERT_EQ(gemm.packed_depth(inputs), bytes);
            gemm.pack(x.data(), kApart, kCount, inputs, bytes, got.data());
            ASSERT_EQ(got, expected) << isa_name(isa) << ", " << inputs << " inputs, group " << group << " of " << odd;
          }
        }
      }
    }
  }
}

// Sums that go over some rows with all queries, then over the next, and ask for those in shares.
TEST(AttentionKernels, WeightedSumsOfManyQueriesEqualLoops) {
  constexpr int64_t kMostRows = 300, kMostQueries = 49;
  for (const int64_t dim : {16, 64, 80}) {
    Random random(static_cast<uint64_t>(dim));
    const int64_t stride = dim + 3, out_stride = dim + 1;
    const std::vector<float> rows = normal(random, kMostRows * stride),
                             weights = normal(random, kMostQueries * kMostRows);
    std::vector<int32_t> index;
    for (int64_t i = 0; i < kMostRows; ++i) index.push_back(static_cast<int32_t>(random.below(kMostRows)));
    for (const int64_t count : {50, 51, 52, 63, 64, 65, 130, 300}) {
      for (const int64_t queries : {6, 7, 12, 18, 19, 24, 25, 49}) {
        for (const bool indexed : {false, true}) {
          std::vector<float> expected(static_cast<size_t>(queries * out_stride), 0.5f);
          for (int64_t q = 0; q < queries; ++q) {
            for (int64_t j = 0; j < count; ++j) {
              const float* row = rows.data() + (indexed ? index[static_cast<size_t>(j)] : j) * stride;
              for (int64_t c = 0; c < dim; ++c) {
                float& sum = expected[static_cast<size_t>(q * out_stride + c)];
                sum = std::fma(weights[static_cast<size_t>(q * kMostRows + j)], row[c], sum);
              }
            }
          }
          for (const Isa isa : supported_isas()) {
            std::vector<float> out(expected.size(), 0.5f);
            kernels_for(isa).weighted_sum({.weights = weights.data(),
                                           .weight_stride = kMostRows,
                                           .queries = queries,
                                           .rows = rows.data(),
                                           .index = indexed ? index.data() : nullptr,
                                           .count = count,
                                           .row_stride = stride,
                                           .dim = dim,
                                           .out = out.data(),
                                           .out_stride = out_stride});
            ASSERT_EQ(out, expected) << isa_name(isa) << ", dim " << dim << ", " << count << " rows, " << queries
                                     << " queries" << (indexed ? ", by index" : "");
          }
        }
      }
    }
  }
}

// Many queries over many rows are summed in turns: the first alone begins, the others go on.
TEST(AttentionKernels, WeightedSumsOfManyQueriesBeginWhereTheyAreTold) {
  constexpr int64_t kMostRows = 300, kMostQueries = 25;
  enum class Begin { kThere, kAtZero, kAtStart };
  for (const int64_t dim : {16, 64, 80}) {
    Random random(static_cast<uint64_t>(dim));
    const int64_t out_stride = dim + 1, start_stride = dim + 2;
    const std::vector<float> rows = normal(random, kMostRows * dim), weights = normal(random, kMostQueries * kMostRows),
                             start = normal(random, kMostQueries * start_stride);
    for (const int64_t count : {64, 65, 130, 300}) {
      for (const int64_t queries : {1, 6, 7, 25}) {
        for (const Begin begin : {Begin::kThere, Begin::kAtZero, Begin::kAtStart}) {
          std::vector<float> expected(static_cast<size_t>(queries * out_stride), 0.5f);
          for (int64_t q = 0; q < queries; ++q) {
            for (int64_t c = 0; c < dim; ++c) {
              float& sum = expected[static_cast<size_t>(q * out_stride + c)];
              if (begin == Begin::kAtZero) sum = 0.0f;
              if (begin == Begin::kAtStart) sum = 0.75f * start[static_cast<size_t>(q * start_stride + c)];
              for (int64_t j = 0; j < count; ++j) {
                sum = std::fma(weights[static_cast<size_t>(q * kMostRows + j)], rows[static_cast<size_t>(j * dim + c)],
                               sum);
              }
            }
          }
          for (const Isa isa : supported_isas()) {
            std::vector<float> out(expected.size(), 0.5f);
            kernels_for(isa).weighted_sum({.weights = weights.data(),
                                           .weight_stride = kMostRows,
                                           .queries = queries,
                                           .rows = rows.data(),
                                           .count = count,
                                           .row_stride = dim,
                                           .dim = dim,
                                           .out = out.data(),
                                           .out_stride = out_stride,
                                           .start = begin == Begin::kAtStart ? start.data() : nullptr,
                                           .start_stride = start_stride,
                                           .start_factor = 0.75f,
                                           .from_zero = begin == Begin::kAtZero});
            ASSERT_EQ(out, expected) << isa_name(isa) << ", dim " << dim << ", " << count << " rows, " << queries
                                     << " queries, begin " << static_cast<int>(begin);
          }
        }
      }
    }
  }
}

TEST(AttentionKernels, EqualLoopsOnEveryInstructionSet) {
  for (const int64_t dim : {1, 7, 16, 20, 64, 65}) {
    Random random(static_cast<uint64_t>(dim));
    const int64_t panel_stride = dim * kPanel + 3;
    const std::vector<float> panel = normal(random, 5 * panel_stride), rows = normal(random, 40 * (dim + 3));
    const std::vector<float> queries = normal(random, 29 * dim), weights = normal(random, 11 * 43);
    std::vector<int32_t> index;
    for (int i = 0; i < 40; ++i) index.push_back(static_cast<int32_t>(random.below(40)));
    std::vector<float> all_first;
    for (const Isa isa : supported_isas()) {
      const Kernels& k = kernels_for(isa);
      std::vector<float> all;
      for (int count = 1; count <= 29; ++count) {
        std::vector<const float*> q;
        for (int i = 0; i < count; ++i) q.push_back(queries.data() + i * dim);
        const int64_t panels = count % 6, stride = panels * kPanel + 4;
        std::vector<float> scores(static_cast<size_t>(29 * stride), 77.0f);
        k.panel_scores({.q = q.data(),
                        .count = count,
                        .panel = panel.data(),
                        .panels = panels,
                        .panel_stride = panel_stride,
                        .dim = dim,
                        .scores = scores.data(),
                        .score_stride = stride});
        for (int i = 0; i < count; ++i) {
          for (int64_t key = 0; key < panels * kPanel; ++key) {
            const float* column = panel.data() + key / kPanel * panel_stride + key % kPanel;
            float sum = 0;
            for (int64_t d = 0; d < dim; ++d) sum = std::fma(q[i][d], column[d * kPanel], sum);
            ASSERT_EQ(scores[i * stride + key], sum) << isa_name(isa) << " dim " << dim;
          }
          ASSERT_EQ(scores[i * stride + panels * kPanel], 77.0f);
        }
        all.insert(all.end(), scores.begin(), scores.end());
      }
      float squares[kPanel];
      k.panel_squares(panel.data(), dim, squares);
      for (int lane = 0; lane < kPanel; ++lane) {
        float sum = 0;
        for (int64_t d = 0; d < dim; ++d) sum = std::fma(panel[d * kPanel + lane], panel[d * kPanel + lane], sum);
        ASSERT_EQ(squares[lane], sum);
      }
      std::vector<float> decayed(static_cast<size_t>(dim * kPanel + 1), 77.0f);
      const float* until = queries.data();
      k.decay_panel(panel.data(), panel.data(), until, dim, decayed.data());
      for (int64_t i = 0; i < dim * kPanel; ++i) {
        const double expected = panel[i] * std::exp(double{until[i / kPanel] - panel[i]});
        ASSERT_NEAR(decayed[i], expected, 1e-6 * std::abs(expected)) << isa_name(isa) << " dim " << dim;
      }
      ASSERT_EQ(decayed.back(), 77.0f);
      all.insert(all.end(), decayed.begin(), decayed.end());
      for (const int64_t count : {0, 1, 3, 4, 5, 39}) {
        for (int64_t queries = 1; queries <= 11; ++queries) {
          const int64_t out_stride = dim + 1;
          std::vector<float> out(static_cast<size_t>(queries * out_stride), 0.5f), gathered = out, started = out;
          WeightedSum sum{.weights = weights.data(),
                          .weight_stride = 43,
                          .queries = queries,
                          .rows = rows.data(),
                          .count = count,
                          .row_stride = dim + 3,
                          .dim = dim,
                          .out = out.data(),
                          .out_stride = out_stride};
          k.weighted_sum(sum);
          sum.index = index.data();
          sum.out = gathered.data();
          k.weighted_sum(sum);
          for (const int64_t stagger : {1, 3}) {
            std::vector<float> chained(static_cast<size_t>(queries * out_stride), 0.5f);
            WeightedSum chain = sum;
            chain.index = nullptr;
            chain.out = chained.data();
            chain.count = std::min<int64_t>(count, 29);
            chain.stagger = stagger;
            k.weighted_sum(chain);
            for (int64_t q = 0; q < queries; ++q) {
              for (int64_t c = 0; c < dim; ++c) {
                float expected = 0.5f;
                for (int64_t j = 0; j < chain.count + q / stagger; ++j) {
                  expected = std::fma(weights[q * 43 + j], rows[j * (dim + 3) + c], expected);
                }
                ASSERT_EQ(chained[q * out_stride + c], expected) << isa_name(isa) << " dim " << dim << " query " << q;
              }
            }
          }
          // The same weights as [count][queries], and a start of its own.
          std::vector<float> across(static_cast<size_t>(39 * 11)), start = normal(random, queries * (dim + 2));
          std::vector<float> zeroed(started.size(), std::numeric_limits<float>::quiet_NaN());
          for (int64_t q = 0; q < queries; ++q) {
            for (int64_t j = 0; j < count; ++j) across[j * 11 + q] = weights[q * 43 + j];
          }
          sum.weights = across.data();
          sum.weight_step = 11;
          sum.weight_stride = 1;
          sum.start = start.data();
          sum.start_stride = dim + 2;
          sum.start_factor = 1.1f;
          sum.out = started.data();
          k.weighted_sum(sum);
          sum.start = nullptr;
          sum.from_zero = true;
          sum.out = zeroed.data();
          k.weighted_sum(sum);
          for (int64_t q = 0; q < queries; ++q) {
            for (int64_t c = 0; c < dim; ++c) {
              float expected = 0.5f, scattered = 0.5f, after_zero = 0.0f;
              float after_start = start[q * (dim + 2) + c] * 1.1f;
              for (int64_t j = 0; j < count; ++j) {
                expected = std::fma(weights[q * 43 + j], rows[j * (dim + 3) + c], expected);
                scattered = std::fma(weights[q * 43 + j], rows[index[j] * (dim + 3) + c], scattered);
                after_start = std::fma(weights[q * 43 + j], rows[index[j] * (dim + 3) + c], after_start);
                after_zero = std::fma(weights[q * 43 + j], rows[index[j] * (dim + 3) + c], after_zero);
              }
              ASSERT_EQ(out[q * out_stride + c], expected) << isa_name(isa) << " dim " << dim << " count " << count;
              ASSERT_EQ(gathered[q * out_stride + c], scattered) << isa_name(isa) << " dim " << dim;
              ASSERT_EQ(started[q * out_stride + c], after_start) << isa_name(isa) << " dim " << dim;
              ASSERT_EQ(zeroed[q * out_stride + c], after_zero) << isa_name(isa) << " dim " << dim;
            }
            ASSERT_EQ(out[q * out_stride + dim], 0.5f);
            ASSERT_EQ(gathered[q * out_stride + dim], 0.5f);
            ASSERT_EQ(started[q * out_stride + dim], 0.5f);
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace espalier
