// Rows that have no direction: zeros where q, k or v stand, and yoso's rows that lie on a hash's own plane.
#include "attention/yoso/yoso.h"

#include <gtest/gtest.h>

#include <cmath>

#include "attention/rows.h"

namespace espalier {
namespace {

const AttentionShape kShape{.heads = 4, .heads_kv = 2, .dim_k = 8, .dim_v = 8, .hidden = 16};
constexpr int64_t kTokens = 27;  // groups of 4 and 8: two are closed at least

struct Case {
  AttentionSpec spec;
  std::vector<std::vector<float>> parameters;
  plain::Sequence rows;
};

// All rows of `c`, in one step and one by one behind their past, against the definition.
void expect_definition(const Case& c, const std::string& what) {
  const auto mechanism = make_mechanism(c.spec, kShape);
  mechanism->load(c.parameters);
  std::vector<std::vector<double>> expected;
  double scale = 1;
  for (int64_t t = 0; t < kTokens; ++t) {
    expected.push_back(plain::attention_row(c.spec, kShape, c.parameters, c.rows, t));
    for (const double x : expected.back()) scale = std::max(scale, std::abs(x));
  }
  std::vector<int32_t> chain;
  for (int32_t t = 0; t < kTokens; ++t) chain.push_back(t - 1);
  // The plainest kernels and the fastest: step_test.cpp compares the bits of all.
  for (const Isa isa : {supported_isas().front(), best_kernels().isa}) {
    const Kernels& kernels = kernels_for(isa);
    const auto whole = testing::step(kernels, *mechanism, kShape, LayerState(mechanism->layout()), c.rows, chain);
    for (int64_t t = 0; t < kTokens; ++t) {
      const auto row = static_cast<size_t>(t);
      ASSERT_LT(testing::worst(whole[row], expected[row]) / scale, 3e-5)
          << c.spec.text() << " " << what << ", " << isa_name(isa) << ", row " << t;
    }
    if (isa != best_kernels().isa) continue;
    LayerState state(mechanism->layout());
    for (int64_t t = 0; t < kTokens; ++t) {
      const auto row = static_cast<size_t>(t);
      if (t == 3 || t == 4 || t == 10 || t == 17 || t == 26) {
        const plain::Sequence one{{c.rows.q[row]}, {c.rows.k[row]}, {c.rows.v[row]}, {c.rows.hidden[row]}};
        ASSERT_EQ(testing::step(kernels, *mechanism, kShape, state, one, {-1})[0], whole[row])
            << c.spec.text() << " " << what << ", row " << t;
      }
      testing::append(kernels, *mechanism, c.rows, t, t + 1, state);
    }
  }
}

TEST(ZeroRows, AreWhatTheDefinitionsSayOfEveryMechanism) {
  for (const char* text : testing::step_samples()) {
    const AttentionSpec spec = AttentionSpec::parse(text);
    const auto mechanism = make_mechanism(spec, kShape);
    Random random(9);
    Case random_case{spec, testing::random_parameters(*mechanism, random), {}};
    testing::append_random(random_case.rows, kShape, kTokens, random);
    expect_definition(random_case, "as drawn");
    const auto zero = [](std::vector<float>& row) { std::fill(row.begin(), row.end(), 0.0f); };
    using Rows = std::vector<std::vector<float>> plain::Sequence::*;
    for (const auto& [what, rows] : {std::pair<const char*, Rows>{"zero q", &plain::Sequence::q},
                                     {"zero k", &plain::Sequence::k},
                                     {"zero v", &plain::Sequence::v}}) {
      Case some = random_case;
      for (const size_t t : {0, 2, 3, 7, 9, 16, 21}) zero((some.rows.*rows)[t]);
      expect_definition(some, what);
    }
    Case nothing = random_case;
    for (size_t t = 0; t < kTokens; ++t) {
      zero(nothing.rows.q[t]);
      zero(nothing.rows.k[t]);
      zero(nothing.rows.v[t]);
    }
    expect_definition(nothing, "all zero");
    // So short that the least length, 1e-6, is what they are divided by.
    Case tiny = random_case;
    for (const size_t t : {1, 4, 8}) {
      for (float& x : tiny.rows.k[t]) x *= 1e-8f;
      for (float& x : tiny.rows.q[t]) x *= 1e-8f;
    }
    expect_definition(tiny, "tiny q and k");
  }
}

// Projections that are exactly zero: a row on a hash's plane has bit 0, as has one on its other side.
TEST(Yoso, ARowOnAHashesPlaneIsOnItsLowSide) {
  const AttentionSpec spec = AttentionSpec::parse("yoso(group=4,bits=3,hashes=2)");
  const auto mechanism = make_mechanism(spec, kShape);
  Random random(10);
  Case c{spec, testing::random_parameters(*mechanism, random), {}};
  // Each projection looks at one coordinate; rows are 0, 1 or -1 there.
  const int dim = kShape.dim_k;
  for (size_t i = 0; i < c.parameters[0].size(); ++i) {
    const int column = static_cast<int>(i) % dim, projection = static_cast<int>(i) / dim;
    c.parameters[0][i] = column == projection % dim ? 1.0f : 0.0f;
  }
  testing::append_random(c.rows, kShape, kTokens, random);
  for (auto* rows : {&c.rows.q, &c.rows.k}) {
    for (auto& row : *rows) {
      for (float& x : row) x = static_cast<float>(random.below(3)) - 1.0f;
    }
  }
  expect_definition(c, "on planes");
  for (auto* rows : {&c.rows.q, &c.rows.k}) {  // a zero of either sign
    for (auto& row : *rows) {
      for (float& x : row) x = x == 0.0f && random.below(2) == 0 ? -0.0f : x;
    }
  }
  expect_definition(c, "on planes, from below");

  // By hand: q at the plane of every hash meets keys of an older group that are on or below all planes, no others.
  Case hand = c;
  for (auto& row : hand.rows.q) std::fill(row.begin(), row.end(), 0.0f);
  for (size_t t = 0; t < kTokens; ++t) {
    std::fill(hand.rows.k[t].begin(), hand.rows.k[t].end(), t % 2 == 0 ? -1.0f : 1.0f);
    std::fill(hand.rows.v[t].begin(), hand.rows.v[t].end(), 0.0f);
    for (size_t h = 0; h < 2; ++h) hand.rows.v[t][h * 8 + (t % 2)] = t < 4 ? 1.0f : 0.0f;
  }
  expect_definition(hand, "by hand");
  mechanism->load(hand.parameters);
  std::vector<int32_t> chain;
  for (int32_t t = 0; t < kTokens; ++t) chain.push_back(t - 1);
  const auto got = testing::step(best_kernels(), *mechanism, kShape, LayerState(mechanism->layout()), hand.rows, chain);
  for (const size_t t : {4, 7, 8, 10}) {
    for (size_t h = 0; h < 4; ++h) {
      EXPECT_NEAR(got[t][h * 8], 1.0f, 1e-6) << t;      // from the even rows, all of one code
      EXPECT_NEAR(got[t][h * 8 + 1], 0.0f, 1e-6) << t;  // none from the odd ones
    }
  }
}

}  // namespace
}  // namespace espalier
