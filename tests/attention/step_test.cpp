// Mechanisms, step half, against their f64 definitions: every node of trees with real branching, behind pasts at every
// offset to a group border, on every instruction set, in strided and misaligned memory with NaN around it.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "attention/rows.h"
#include "core/error.h"
#include "support/seeds.h"
#include "support/trees.h"

namespace espalier {
namespace {

using testing::append_random;
using testing::committed;
using testing::Placement;

constexpr double kTolerance = 3e-5;  // f32 against f64, for values of size 1

const AttentionShape kShapes[] = {
    {.heads = 6, .heads_kv = 2, .dim_k = 16, .dim_v = 16, .hidden = 10},
    {.heads = 3, .heads_kv = 3, .dim_k = 8, .dim_v = 8, .hidden = 24},
    {.heads = 5, .heads_kv = 1, .dim_k = 7, .dim_v = 7, .hidden = 35},
    {.heads = 20, .heads_kv = 1, .dim_k = 20, .dim_v = 20, .hidden = 3},
    {.heads = 4, .heads_kv = 2, .dim_k = 8, .dim_v = 24, .hidden = 16, .layer = 1, .layers = 4},
};

struct Tree {
  plain::Sequence rows;
  std::vector<int32_t> parent;
};

Tree with_rows(const AttentionShape& shape, std::vector<int32_t> parent, Random& random) {
  Tree tree;
  tree.parent = std::move(parent);
  append_random(tree.rows, shape, static_cast<int64_t>(tree.parent.size()), random);
  return tree;
}

Tree random_tree(const AttentionShape& shape, int64_t nodes, int64_t max_depth, Random& random) {
  return with_rows(shape, testing::random_tree(nodes, max_depth, 2, random).parents, random);
}

// Rows [begin, end).
plain::Sequence part_of(const plain::Sequence& rows, int64_t begin, int64_t end) {
  plain::Sequence part;
  part.q.assign(rows.q.begin() + begin, rows.q.begin() + end);
  part.k.assign(rows.k.begin() + begin, rows.k.begin() + end);
  part.v.assign(rows.v.begin() + begin, rows.v.begin() + end);
  if (!rows.hidden.empty()) part.hidden.assign(rows.hidden.begin() + begin, rows.hidden.begin() + end);
  return part;
}

// Up to `most`, or to where trees must end.
int64_t depth_limit(const StateLayout& layout, int64_t length, int64_t most = 64) {
  return std::min(layout.max_tree_depth(length), most);
}

class Steps : public ::testing::TestWithParam<std::tuple<const char*, size_t>> {
 protected:
  const AttentionShape& shape() const { return kShapes[std::get<1>(GetParam())]; }
  AttentionSpec spec() const { return AttentionSpec::parse(std::get<0>(GetParam())); }
  // What the borders are laid on; 8 where there are none.
  int64_t block() const {
    const int64_t block = make_mechanism(spec(), shape())->layout().block;
    return block > 0 ? block : 8;
  }
  std::vector<int64_t> lengths() const {
    const int64_t g = block(), tail = make_mechanism(spec(), shape())->layout().tail;
    std::vector<int64_t> all = {0,     1,         g - 1,     g,    g + 1,    2 * g - 1,
                                2 * g, 2 * g + 1, 3 * g - 1, tail, tail + 1, 3 * g + 2};
    std::sort(all.begin(), all.end());
    all.erase(std::unique(all.begin(), all.end()), all.end());
    return all;
  }
};

std::string case_name(const ::testing::TestParamInfo<std::tuple<const char*, size_t>>& info) {
  std::string name = std::get<0>(info.param) + std::string("_shape") + std::to_string(std::get<1>(info.param));
  for (char& c : name) {
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  }
  return name;
}
INSTANTIATE_TEST_SUITE_P(All, Steps,
                         ::testing::Combine(::testing::ValuesIn(testing::step_samples()),
                                            ::testing::Range<size_t>(0, std::size(kShapes))),
                         case_name);

TEST_P(Steps, EveryNodeOfATreeEqualsTheDefinition) {
  Random random(11);
  const auto mechanism = make_mechanism(spec(), shape());
  const auto parameters = testing::random_parameters(*mechanism, random);
  mechanism->load(parameters);
  plain::Sequence past;
  append_random(past, shape(), lengths().back(), random);
  const Placement placements[] = {{}, {.gap = 3, .offset = 1}, {.gap = 13, .offset = 5}};
  std::vector<testing::Past> pasts;
  for (const Isa isa : supported_isas()) pasts.emplace_back(kernels_for(isa), *mechanism, past);
  size_t count = 0;
  for (const int64_t length : lengths()) {
    const Tree tree = random_tree(shape(), block() > 60 ? 10 : 24, depth_limit(mechanism->layout(), length), random);
    std::vector<std::vector<double>> expected;
    double scale = 1;
    for (size_t node = 0; node < tree.parent.size(); ++node) {
      const plain::Sequence path =
          testing::path_sequence(past, length, tree.rows, tree.parent, static_cast<int32_t>(node));
      expected.push_back(
          plain::attention_row(spec(), shape(), parameters, path, static_cast<int64_t>(path.q.size()) - 1));
      for (const double x : expected.back()) scale = std::max(scale, std::abs(x));
    }
    std::vector<std::vector<float>> first;
    for (size_t i = 0; i < pasts.size(); ++i) {
      const Isa isa = supported_isas()[i];
      const LayerState& state = pasts[i].after(length);
      const auto got = testing::step(kernels_for(isa), *mechanism, shape(), state, tree.rows, tree.parent,
                                     placements[count % 3], 1 + static_cast<int>(count % 2));
      ++count;
      for (size_t node = 0; node < got.size(); ++node) {
        ASSERT_LT(testing::worst(got[node], expected[node]) / scale, kTolerance)
            << isa_name(isa) << " P=" << length << " node " << node;
      }
      if (first.empty()) first = got;
      ASSERT_EQ(got, first) << "bits of " << isa_name(isa) << " P=" << length;
    }
  }
}

// To the last depth that may follow, where what a node sees has just folded or gone: behind every length up to a
// block border and below the sinks, by two paths that part at the root. Each path is the chain along it, bit for bit.
TEST_P(Steps, TreesAreRightToTheirLastDepth) {
  Random random(testing::seed_of(spec().text()) + std::get<1>(GetParam()));
  const Kernels& kernels = best_kernels();
  const auto mechanism = make_mechanism(spec(), shape());
  mechanism->load(testing::random_parameters(*mechanism, random));
  const int64_t most = 2 * block() + 1;
  plain::Sequence past;
  append_random(past, shape(), most, random);
  testing::Past states(kernels, *mechanism, past);
  for (int64_t length = 0; length <= most; ++length) {
    const bool near_border = length % block() < 2 || length % block() == block() - 1;
    if (block() > 16 && !near_border && random.below(block() / 3) > 0) continue;
    const LayerState& state = states.after(length);
    const int64_t last_depth = depth_limit(mechanism->layout(), length, most);
    const Tree tree = with_rows(shape(), testing::deep_tree(last_depth, random.below(6), 2, random).parents, random);
    const auto got = testing::step(kernels, *mechanism, shape(), state, tree.rows, tree.parent);
    std::vector<bool> compared(tree.parent.size());
    for (size_t node = tree.parent.size(); node-- > 0;) {
      if (compared[node]) continue;
      const plain::Sequence path = testing::path_sequence({}, 0, tree.rows, tree.parent, static_cast<int32_t>(node));
      std::vector<int32_t> chain;
      for (size_t r = 0; r < path.q.size(); ++r) chain.push_back(static_cast<int32_t>(r) - 1);
      const auto along = testing::step(kernels, *mechanism, shape(), state, path, chain);
      auto on_path = static_cast<int32_t>(node);
      for (size_t depth = path.q.size(); depth-- > 0; on_path = tree.parent[static_cast<size_t>(on_path)]) {
        compared[static_cast<size_t>(on_path)] = true;
        ASSERT_EQ(got[static_cast<size_t>(on_path)], along[depth])
            << "P=" << length << " depth " << depth << " of " << last_depth;
      }
    }
  }
}

// A chain in one step, cut anywhere, or row by row: the same bits, and the same state behind it.
TEST_P(Steps, CuttingAChainChangesNoBit) {
  Random random(12);
  const Kernels& kernels = best_kernels();
  const auto mechanism = make_mechanism(spec(), shape());
  mechanism->load(testing::random_parameters(*mechanism, random));
  // More than a slice of attend(), more panels than a bounded chain keeps, and where rows fold more folds.
  const StateLayout layout = mechanism->layout();
  const int64_t rows_of_folds = layout.fold_floats > 0 ? (kSlice / layout.block + 4) * layout.block : 0;
  const int64_t rows_of_panels = layout.bounded() ? (layout.lag + 1) * layout.block + layout.tail + 2 * kSlice : 0;
  const int64_t total = std::max({3 * block() + 2, rows_of_folds + 2, rows_of_panels + 2, int64_t{70}});
  plain::Sequence rows;
  append_random(rows, shape(), total, random);
  // The first chunk may be shorter than the others.
  const auto in_chunks = [&](int64_t chunk, int64_t first) {
    LayerState state(mechanism->layout());
    std::vector<std::vector<float>> out;
    for (int64_t begin = 0, end = first; begin < total; begin = end, end += chunk) {
      end = std::min(total, end);
      const plain::Sequence part = part_of(rows, begin, end);
      std::vector<int32_t> parent;
      for (int64_t r = 0; r < end - begin; ++r) parent.push_back(static_cast<int32_t>(r) - 1);
      const auto got = testing::step(kernels, *mechanism, shape(), state, part, parent);
      out.insert(out.end(), got.begin(), got.end());
      testing::append(kernels, *mechanism, rows, begin, end, state);
    }
    std::string bytes;
    state.serialize(bytes);
    return std::pair(out, bytes);
  };
  const auto one_by_one = in_chunks(1, 1);
  const auto expect_same = [&](int64_t chunk, int64_t first) {
    const auto cut = in_chunks(chunk, first);
    EXPECT_EQ(cut.first, one_by_one.first) << "chunk " << chunk << " after " << first;
    EXPECT_EQ(cut.second, one_by_one.second) << "chunk " << chunk << " after " << first;
  };
  for (const int64_t chunk : {int64_t{2}, block() + 1, int64_t{65}, total}) expect_same(chunk, chunk);
  // A long chain behind a few rows, also fewer than there are sinks.
  for (const int64_t first : {int64_t{1}, int64_t{2}, std::max<int64_t>(1, layout.sinks - 1), block()}) {
    expect_same(total, std::min(first, total - 1));
  }
}

// A tree's rows go over a long past together, up to its last committed row; wherever a tile of the past ends.
TEST_P(Steps, NodesBehindALongPastAreChainsAlongTheirPaths) {
  Random random(15);
  const Kernels& kernels = best_kernels();
  const auto mechanism = make_mechanism(spec(), shape());
  mechanism->load(testing::random_parameters(*mechanism, random));
  plain::Sequence past;
  append_random(past, shape(), 600, random);
  testing::Past states(kernels, *mechanism, past);
  for (const int64_t length : {100, 250, 255, 256, 257, 505, 600}) {
    const LayerState& state = states.after(length);
    const int64_t nodes = length == 505 && !mechanism->layout().bounded() ? 40 : 14;
    const Tree tree = random_tree(shape(), nodes, depth_limit(mechanism->layout(), length, 12), random);
    const auto got = testing::step(kernels, *mechanism, shape(), state, tree.rows, tree.parent, {},
                                   1 + static_cast<int>(length % 3));
    for (size_t node = 0; node < got.size(); ++node) {
      const plain::Sequence path = testing::path_sequence({}, 0, tree.rows, tree.parent, static_cast<int32_t>(node));
      std::vector<int32_t> chain;
      for (size_t r = 0; r < path.q.size(); ++r) chain.push_back(static_cast<int32_t>(r) - 1);
      ASSERT_EQ(got[node], testing::step(kernels, *mechanism, shape(), state, path, chain).back())
          << "P=" << length << " node " << node;
    }
  }
}

// However the work of one row is shared out, tiles of a long past included.
TEST_P(Steps, ARowIsTheSameOnAnyNumberOfThreads) {
  Random random(14);
  const Kernels& kernels = best_kernels();
  const auto mechanism = make_mechanism(spec(), shape());
  mechanism->load(testing::random_parameters(*mechanism, random));
  plain::Sequence rows, next;
  append_random(rows, shape(), 600, random);
  append_random(next, shape(), 1, random);
  testing::Past states(kernels, *mechanism, rows);
  for (const int64_t length : {0, 1, 255, 256, 257, 600}) {
    const LayerState& state = states.after(length);
    const auto alone = testing::step(kernels, *mechanism, shape(), state, next, {-1}, {}, 1);
    for (const int threads : {2, 3, 8}) {
      EXPECT_EQ(testing::step(kernels, *mechanism, shape(), state, next, {-1}, {.gap = 3, .offset = 1}, threads), alone)
          << threads << " threads, P=" << length;
    }
  }
}

// A bounded state has one size for life, and a saved one goes on with the same bits.
TEST_P(Steps, StateKeepsItsSizeAndSurvivesSaving) {
  Random random(13);
  const Kernels& kernels = best_kernels();
  const auto mechanism = make_mechanism(spec(), shape());
  mechanism->load(testing::random_parameters(*mechanism, random));
  plain::Sequence rows, next;
  append_random(rows, shape(), 5 * block() + 3, random);
  append_random(next, shape(), 1, random);
  testing::Past states(kernels, *mechanism, rows);
  for (const int64_t length : {int64_t{0}, int64_t{1}, block(), 2 * block() + 1, 5 * block() + 3}) {
    const LayerState& state = states.after(length);
    if (mechanism->capabilities().constant_state) {
      EXPECT_EQ(state.bytes(), LayerState(mechanism->layout()).bytes()) << length;
    }
    std::string bytes, again;
    state.serialize(bytes);
    std::string_view in = bytes;
    const LayerState loaded = LayerState::deserialize(mechanism->layout(), in, "test");
    EXPECT_TRUE(in.empty());
    loaded.serialize(again);
    EXPECT_EQ(bytes, again);
    EXPECT_EQ(testing::step(kernels, *mechanism, shape(), state, next, {-1}),
              testing::step(kernels, *mechanism, shape(), loaded, next, {-1}));
    for (const size_t size : {size_t{0}, bytes.size() / 2, bytes.size() - 1}) {
      std::string_view cut = std::string_view(bytes).substr(0, size);
      EXPECT_THROW(LayerState::deserialize(mechanism->layout(), cut, "test"), Error);
    }
  }
}

TEST(Shapes, MoreQueryHeadsThanAreMadeForAreRefused) {
  AttentionShape shape{.heads = kMaxHeadsPerKv, .heads_kv = 1, .dim_k = 4, .dim_v = 4, .hidden = 3};
  for (const AttentionCard* card : attention_cards()) {
    const std::string& name = card->name;
    const AttentionSpec spec = AttentionSpec::parse(card->specs_to_measure().front());
    shape.heads = kMaxHeadsPerKv;
    const auto mechanism = make_mechanism(spec, shape);
    Random random(19);
    mechanism->load(testing::random_parameters(*mechanism, random));
    plain::Sequence rows;
    append_random(rows, shape, 3, random);
    const LayerState empty(mechanism->layout());
    EXPECT_EQ(testing::step(best_kernels(), *mechanism, shape, empty, rows, {-1, 0, 1}).size(), 3u) << name;
    shape.heads = kMaxHeadsPerKv + 1;
    EXPECT_THROW(make_mechanism(spec, shape), NotSupported) << name;
  }
}

// All of a few rows; of many the first and last ones of panels and slices, and some more.
std::set<int64_t> rows_to_define(int64_t count, Random& random) {
  std::set<int64_t> rows;
  for (const int64_t border : {int64_t{0}, int64_t{kPanel}, kSlice, count}) {
    for (int64_t r = border - 2; r < border + 2; ++r) rows.insert(r);
  }
  for (int i = 0; i < 10; ++i) rows.insert(random.below(count));
  std::erase_if(rows, [&](int64_t r) { return r < 0 || r >= count; });
  return rows;
}

// Rows that all see each other, or only a fixed state: what each of them gets is the definition's, whatever memory,
// threads and instruction sets compute it.
TEST(Spans, EqualTheDefinition) {
  constexpr int64_t kReach = 9;
  for (const char* text : testing::step_samples()) {
    for (const AttentionShape& base_shape : kShapes) {
      const Capabilities can = make_mechanism(AttentionSpec::parse(text), base_shape)->capabilities();
      if (!can.span || (can.max_length > 0 && can.max_length < 400)) continue;
      for (const bool keys : {true, false}) {
        for (const auto& [past, count] :
             {std::pair(0, 1), {0, 2}, {0, 17}, {5, 30}, {0, 300}, {256, 3}, {300, 40}, {300, 1}}) {
          if (!keys && past == 0) continue;
          const auto spec = AttentionSpec::parse(text);
          if (past > 0 && !can.source) continue;
          Random random(static_cast<uint64_t>(past + count));
          AttentionShape shape = base_shape;
          if (past == 5) shape.scale = 0.7f;
          shape.span = past == 0;
          const auto mechanism = make_mechanism(spec, shape);
          ASSERT_TRUE(mechanism->capabilities().span);
          const auto parameters = testing::random_parameters(*mechanism, random);
          mechanism->load(parameters);
          plain::Sequence before, rows;
          append_random(before, shape, past, random);
          append_random(rows, shape, count, random);
          std::vector<float> biases;
          for (int64_t i = 0; i < shape.heads * (2 * kReach + 1); ++i) biases.push_back(random.normal());
          const RelativeBias bias = (count % 2 == 0 || past == 300) && mechanism->capabilities().bias
                                        ? RelativeBias{biases.data(), kReach}
                                        : RelativeBias{};
          const LayerState state = committed(best_kernels(), *mechanism, before, past);
          std::vector<int32_t> parent;
          for (int32_t r = 0; r < count; ++r) parent.push_back(r - 1);
          const testing::Span span{true, keys, bias};
          const auto got = testing::step(best_kernels(), *mechanism, shape, state, rows, parent, {}, 1, span);
          for (const Isa isa : supported_isas()) {
            for (const int threads : {2, 3}) {
              const auto again =
                  testing::step(kernels_for(isa), *mechanism, shape, state, rows, parent, {3, 5}, threads, span);
              ASSERT_EQ(got, again) << isa_name(isa) << " " << threads << " threads";
            }
          }
          plain::Sequence all = before;
          all.q.insert(all.q.end(), rows.q.begin(), rows.q.end());
          if (keys) {
            all.k.insert(all.k.end(), rows.k.begin(), rows.k.end());
            all.v.insert(all.v.end(), rows.v.begin(), rows.v.end());
          }
          for (const int64_t r : rows_to_define(count, random)) {
            const auto expected = plain::attention_row(spec, shape, parameters, all, past + r, true, bias);
            for (size_t c = 0; c < expected.size(); ++c) {
              ASSERT_NEAR(got[static_cast<size_t>(r)][c], expected[c],
                          kTolerance * std::max(1.0, std::abs(expected[c])))
                  << text << " past " << past;
            }
          }
        }
      }
    }
  }
}

// The bias of a tree's node counts from its own position.
TEST(Spans, ABiasOnTreesIsThatOfTheirPaths) {
  constexpr int64_t kReach = 4;
  Random random(23);
  const std::vector<const char*> samples = testing::step_samples();
  int tried = 0;
  for (size_t i = 0; i < samples.size() * std::size(kShapes); ++i) {
    const auto spec = AttentionSpec::parse(samples[i / std::size(kShapes)]);
    const AttentionShape& shape = kShapes[i % std::size(kShapes)];
    const auto mechanism = make_mechanism(spec, shape);
    if (!mechanism->capabilities().bias) continue;
    const auto parameters = testing::random_parameters(*mechanism, random);
    mechanism->load(parameters);
    plain::Sequence past;
    const int64_t length = ++tried % 2 == 0 ? 7 : 300;
    append_random(past, shape, length, random);
    const LayerState state = committed(best_kernels(), *mechanism, past, length);
    const Tree tree = random_tree(shape, 12, depth_limit(mechanism->layout(), length, 6), random);
    std::vector<float> biases;
    for (int64_t j = 0; j < shape.heads * (2 * kReach + 1); ++j) biases.push_back(random.normal());
    const RelativeBias bias{biases.data(), kReach};
    const auto got = testing::step(best_kernels(), *mechanism, shape, state, tree.rows, tree.parent, {}, 1,
                                   {.span = false, .keys = true, .bias = bias});
    for (int32_t node = 0; node < static_cast<int32_t>(tree.parent.size()); ++node) {
      const plain::Sequence path = testing::path_sequence(past, length, tree.rows, tree.parent, node);
      const auto expected =
          plain::attention_row(spec, shape, parameters, path, static_cast<int64_t>(path.k.size()) - 1, false, bias);
      for (size_t c = 0; c < expected.size(); ++c) {
        ASSERT_NEAR(got[static_cast<size_t>(node)][c], expected[c], kTolerance * std::max(1.0, std::abs(expected[c])))
            << spec.text();
      }
    }
  }
  EXPECT_GT(tried, 20);
}

// A chain behind a long past, all of whose rows may go over its tiles together: each row alone.
TEST(LongPasts, ChainsAreTheirRowsAlone) {
  Random random(16);
  const Kernels& kernels = best_kernels();
  for (const AttentionShape& shape : kShapes) {
    const auto mechanism = make_mechanism(AttentionSpec::parse("softmax"), shape);
    plain::Sequence rows;
    append_random(rows, shape, 600, random);
    for (const int64_t length : {240, 256, 511, 512, 560}) {
      const LayerState state = committed(kernels, *mechanism, rows, length);
      for (const int64_t count : {2, 16, 17, 33}) {
        std::vector<int32_t> parent;
        for (int64_t r = 0; r < count; ++r) parent.push_back(static_cast<int32_t>(r) - 1);
        const auto got = testing::step(kernels, *mechanism, shape, state, part_of(rows, length, length + count), parent,
                                       {.gap = 3, .offset = 1}, 1 + static_cast<int>(count % 3));
        for (const int64_t row : {int64_t{0}, count / 2, count - 1}) {
          const LayerState before = committed(kernels, *mechanism, rows, length + row);
          const plain::Sequence alone = part_of(rows, length + row, length + row + 1);
          ASSERT_EQ(got[static_cast<size_t>(row)], testing::step(kernels, *mechanism, shape, before, alone, {-1})[0])
              << "P=" << length << " row " << row << " of " << count;
        }
      }
    }
  }
}

// Sums and decays over a text that is far longer than any training: nothing overflows, whatever the gates say.
TEST(LongTexts, StayFinite) {
  const AttentionShape shape{.heads = 2, .heads_kv = 1, .dim_k = 4, .dim_v = 4, .hidden = 3};
  const Kernels& kernels = best_kernels();
  std::vector<std::string> specs = testing::attentions_to_measure();
  // What grows or forgets otherwise than as a rule.
  specs.insert(specs.end(), {"retention(decay=lightning)", "flash_global(group=8,scale=none)", "lolcats(group=8)"});
  for (const std::string& spec : specs) {
    if (!make_mechanism(AttentionSpec::parse(spec), shape)->capabilities().constant_state) continue;
    for (const float strength : {0.0f, 1.0f, 300.0f}) {
      Random random(17);
      const auto mechanism = make_mechanism(AttentionSpec::parse(spec), shape);
      auto parameters = testing::random_parameters(*mechanism, random);
      if (parameters.size() > 1 && mechanism->layout().dim_extra > 0) {
        for (float& w : parameters[0]) w *= strength;
      }
      mechanism->load(parameters);
      plain::Sequence rows, last;
      append_random(rows, shape, 64, random);
      append_random(last, shape, 1, random);
      LayerState state(mechanism->layout());
      const int64_t longest = mechanism->capabilities().max_length > 0 ? mechanism->capabilities().max_length : 100000;
      const int64_t repeats = mechanism->layout().dim_extra > 0 || strength == 0.0f ? (longest - 1) / 64 : 0;
      for (int64_t i = 0; i < repeats; ++i) testing::append(kernels, *mechanism, rows, 0, 64, state);
      const auto out = testing::step(kernels, *mechanism, shape, state, last, {-1});
      for (const float y : out[0]) {
        ASSERT_TRUE(std::isfinite(y)) << spec << " " << strength;
      }
    }
  }
}

}  // namespace
}  // namespace espalier
