// How drafts become a tree: merged, ranked, sized and learned from, each against its definition or a search of all.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <set>

#include "core/rng.h"
#include "decoding/acceptance_rates.h"
#include "decoding/drafters/merge.h"
#include "decoding/generate.h"
#include "decoding/tree_cost.h"
#include "decoding/tree_strategy.h"
#include "support/tiny_model.h"

namespace espalier {
namespace {

using Tokens = std::vector<int32_t>;
using Script = std::function<std::vector<DraftChild>(const Tokens& path)>;  // path: root first

// Gives what a script says of each path.
class ScriptedDrafter : public Drafter {
 public:
  explicit ScriptedDrafter(Script script, bool costly = false) : script_(std::move(script)), costly_(costly) {}
  bool costly() const override { return costly_; }
  void reset() override { observed.clear(); }
  void observe(int32_t token) override { observed.push_back(token); }
  void see(const float* hidden) override { seen = hidden; }
  DraftCursor root() override {
    ++roots;
    paths_ = {{observed.empty() ? 0 : observed.back()}};
    return {0, 0};
  }
  void children(DraftCursor cursor, double reach, std::vector<DraftChild>& out) override {
    reaches[paths_[static_cast<size_t>(cursor.value)]] = reach;
    for (const DraftChild& child : script_(paths_[static_cast<size_t>(cursor.value)])) out.push_back(child);
  }
  DraftCursor advance(DraftCursor cursor, int32_t token) override {
    Tokens path = paths_[static_cast<size_t>(cursor.value)];
    path.push_back(token);
    paths_.push_back(path);
    return {static_cast<int64_t>(paths_.size()) - 1, 0};
  }

  Tokens observed;
  const float* seen = nullptr;
  int roots = 0;
  std::map<Tokens, double> reaches;  // that children() was asked with

 private:
  Script script_;
  bool costly_;
  std::vector<Tokens> paths_;
};

// A few children with scores that are a function of drafter and path.
Script random_script(uint64_t drafter, int64_t tokens, double greatest) {
  return [=](const Tokens& path) {
    uint64_t hash = drafter;
    for (const int32_t token : path) hash = random_bits(hash, 1, static_cast<uint64_t>(token));
    Random random(hash);
    std::vector<DraftChild> children;
    std::set<int32_t> used;
    const int64_t count = random.below(4);
    for (int64_t i = 0; i < count; ++i) {
      const auto token = static_cast<int32_t>(random.below(tokens));
      if (used.insert(token).second) children.push_back({token, static_cast<float>(random.uniform() * greatest)});
    }
    return children;
  };
}

using Paths = std::map<Tokens, double>;  // path from the root -> estimated probability that the model comes by

// Every path that any script gives, by the definition in merge.h.
void all_paths(const std::vector<Script>& scripts, const AcceptanceRates& rates, const Tokens& path, double reach,
               int64_t max_depth, Paths& paths) {
  const auto depth = static_cast<int64_t>(path.size());
  if (depth > max_depth) return;
  std::map<int32_t, std::pair<double, uint32_t>> children;  // token -> probability that all are wrong, who
  for (size_t i = 0; i < scripts.size(); ++i) {
    for (const DraftChild& child : scripts[i](path)) {
      auto& [wrong, who] = children.try_emplace(child.token, 1.0, 0u).first->second;
      wrong *= 1 - std::clamp<double>(child.score, 1e-4, 0.99);
      who |= 1u << i;
    }
  }
  double sum = 0;
  std::map<int32_t, double> own;
  for (const auto& [token, child] : children) {
    const double score = std::min(0.99, 1 - child.first);
    sum += own[token] = rates.rate(AcceptanceRates::kind(child.second, score, depth), score);
  }
  for (const auto& [token, rate] : own) {
    const double expected = reach * rate * std::min(1.0, 0.99 / sum);
    if (expected < 1e-3) continue;
    Tokens longer = path;
    longer.push_back(token);
    paths[longer] = expected;
    all_paths(scripts, rates, longer, expected, max_depth, paths);
  }
}

Tokens path_to(const DraftTree& tree, int64_t node) {
  Tokens path;
  for (int64_t n = node; n >= 0; n = tree.parents[static_cast<size_t>(n)]) {
    path.insert(path.begin(), tree.tokens[static_cast<size_t>(n)]);
  }
  return path;
}

TEST(GrowTree, TakesTheLikeliestNodesOfAll) {
  int64_t compared = 0;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    const size_t count = 1 + seed % 4;
    std::vector<Script> scripts;
    std::vector<std::unique_ptr<Drafter>> drafters;
    for (size_t i = 0; i < count; ++i) {
      scripts.push_back(random_script(seed * 10 + i, seed % 3 == 0 ? 3 : 8, seed % 5 == 0 ? 1.0 : 0.6));
      drafters.push_back(std::make_unique<ScriptedDrafter>(scripts.back()));
    }
    AcceptanceRates rates;
    if (seed % 2 == 1) {  // some that have been learned
      Random random(seed);
      for (int i = 0; i < 500; ++i) {
        rates.record(AcceptanceRates::kind(1 + static_cast<uint32_t>(random.below(3)), 0.05 + 0.9 * random.uniform(),
                                           1 + random.below(7)),
                     random.below(3) == 0);
      }
    }
    for (const int64_t max_depth : {1, 2, 5}) {
      Paths paths;
      all_paths(scripts, rates, {0}, 1.0, max_depth, paths);
      std::vector<double> reaches;
      for (const auto& [path, reach] : paths) reaches.push_back(reach);
      std::sort(reaches.rbegin(), reaches.rend());
      for (const int64_t nodes : {1, 2, 3, 8, 20, 64}) {
        DraftTree tree;
        grow_tree(drafters, rates, {.root = 0, .nodes = nodes, .max_depth = max_depth}, tree);
        ASSERT_EQ(tree.size(), std::min<int64_t>(nodes, 1 + std::ssize(reaches))) << seed;
        EXPECT_EQ(tree.parents[0], -1);
        EXPECT_EQ(tree.expected[0], 1.0);
        EXPECT_EQ(tree.evidence[0], -1);
        std::set<Tokens> seen;
        for (int64_t n = 1; n < tree.size(); ++n) {
          const auto node = static_cast<size_t>(n);
          const Tokens path = path_to(tree, n);
          ASSERT_LT(tree.parents[node], n);
          ASSERT_TRUE(seen.insert(path).second);  // no path twice
          ASSERT_TRUE(paths.contains(path));
          EXPECT_NEAR(tree.expected[node], paths.at(path), 1e-6);
          EXPECT_NEAR(tree.expected[node], reaches[node - 1], 1e-6) << seed;  // the n-th likeliest of all
          EXPECT_EQ(tree.depths[node], std::ssize(path) - 1);
          EXPECT_LE(tree.depths[node], max_depth);
          EXPECT_GE(tree.evidence[node], 0);
          ++compared;
        }
      }
    }
  }
  EXPECT_GT(compared, 2000);
}

TEST(GrowTree, AsksCostlyDraftersOnlyWhenItMay) {
  const Script cheap = [](const Tokens&) { return std::vector<DraftChild>{{1, 0.5f}}; };
  const Script costly = [](const Tokens&) { return std::vector<DraftChild>{{2, 0.8f}}; };
  std::vector<std::unique_ptr<Drafter>> drafters;
  drafters.push_back(std::make_unique<ScriptedDrafter>(costly, true));
  drafters.push_back(std::make_unique<ScriptedDrafter>(cheap));
  auto& asked = static_cast<ScriptedDrafter&>(*drafters[0]);
  DraftTree tree;
  grow_tree(drafters, {}, {.root = 7, .nodes = 4, .max_depth = 9}, tree);
  EXPECT_EQ(tree.tokens[1], 2);
  EXPECT_EQ(asked.roots, 1);
  EXPECT_NEAR(asked.reaches.at({0}), 1.0, 1e-9);
  EXPECT_NEAR(asked.reaches.at({0, 2}), tree.expected[1], 1e-9);
  grow_tree(drafters, {}, {.root = 7, .nodes = 4, .max_depth = 9, .costly = false}, tree);
  EXPECT_EQ(asked.roots, 1);
  EXPECT_EQ(tree.tokens, (Tokens{7, 1, 1, 1}));
  EXPECT_NEAR(tree.expected[3], 0.125, 1e-6);
}

TEST(AcceptanceRates, AreThoseOfAPlainCountThatFades) {
  AcceptanceRates rates;
  Random random(5);
  const int32_t kind = AcceptanceRates::kind(3, 0.6, 2), other = AcceptanceRates::kind(3, 0.6, 1);
  double tried = 0, accepted = 0;
  EXPECT_NEAR(rates.rate(kind, 0.6), 0.6, 1e-12);  // nothing learned: their own score
  for (int i = 0; i < 3000; ++i) {
    const bool right = random.below(10) < (i < 1500 ? 8 : 1);
    rates.record(kind, right);
    tried += 1;
    accepted += right;
    if (tried > 400) tried /= 2, accepted /= 2;
    ASSERT_NEAR(rates.rate(kind, 0.6), (accepted + 6 * 0.6) / (tried + 6), 1e-4) << i;
    ASSERT_NEAR(rates.rate(kind, 0.2), (accepted + 6 * 0.2) / (tried + 6), 1e-4) << i;
  }
  EXPECT_NEAR(rates.rate(kind, 0.6), 0.1, 0.05);  // what was learned before has faded
  EXPECT_NEAR(rates.rate(other, 0.6), 0.6, 1e-12);
}

// A kind for each set of drafters, part of the log-odds and depth 1, 2, 3 to 5, beyond; none shares its counts.
TEST(AcceptanceRates, KeepTheirKindsApart) {
  std::map<int32_t, std::tuple<uint32_t, int, int>> meaning;
  for (uint32_t drafters = 0; drafters < 16; ++drafters) {
    for (int thousandth = 1; thousandth < 1000; ++thousandth) {
      for (int64_t depth = 1; depth < 12; ++depth) {
        const double score = thousandth / 1000.0;
        const double part = std::floor(1.25 * std::log(score / (1 - score)));
        const int scores = static_cast<int>(std::clamp(part, -6.0, 5.0));
        const int depths = depth < 3 ? static_cast<int>(depth) : depth < 6 ? 3 : 4;
        const auto [it, fresh] =
            meaning.try_emplace(AcceptanceRates::kind(drafters, score, depth), drafters, scores, depths);
        ASSERT_EQ(it->second, std::tuple(drafters, scores, depths)) << score << " " << depth;
      }
    }
  }
  EXPECT_EQ(meaning.size(), 16u * 12 * 4);
  std::set<std::tuple<uint32_t, int, int>> different;
  AcceptanceRates rates;
  for (const auto& [kind, what] : meaning) {
    different.insert(what);
    EXPECT_NEAR(rates.rate(kind, 0.5), 0.5, 1e-12) << kind;  // untouched by those before
    for (int i = 0; i < 3; ++i) rates.record(kind, true);
  }
  EXPECT_EQ(different.size(), meaning.size());
}

StepCost cost_of(const std::vector<double>& points) {
  return StepCost::from_points(points).value();
}

TEST(StepCost, IsStraightBetweenPowersOfTwo) {
  const std::vector<double> points = {10, 11, 14, 13, 30, 0, 100};  // 8 rows were faster than 4; 32 were not measured
  const StepCost cost = cost_of(points);
  const double expected[] = {10, 11, 13, 13, 30, 100, 100};  // none is slower than one of more rows
  for (size_t p = 0; p < 7; ++p) EXPECT_NEAR(cost.ms(int64_t{1} << p), expected[p], 1e-12) << p;
  for (int64_t rows = 1; rows < 64; ++rows) {
    size_t p = 0;
    while ((int64_t{2} << p) <= rows) ++p;
    const double share = (static_cast<double>(rows) - static_cast<double>(int64_t{1} << p)) / double(int64_t{1} << p);
    EXPECT_NEAR(cost.ms(rows), expected[p] + share * (expected[p + 1] - expected[p]), 1e-9) << rows;
    EXPECT_GE(cost.ms(rows + 1), cost.ms(rows));
  }
  EXPECT_NEAR(cost.ms(128), 200, 1e-9);  // beyond: as many times as much
  EXPECT_NEAR(cost.ms(96), 150, 1e-9);
  EXPECT_EQ(cost.points(), points);
  EXPECT_NEAR(cost_of({5, 0, 0, 0, 0, 0, 0}).ms(8), 40, 1e-9);  // never measured: in proportion
}

TEST(StepCost, MeasuresWhatItsPlanAsksFor) {
  StepCost cost;
  std::vector<int64_t> asked;
  int first = 0;
  while (const int64_t rows = cost.wanted_rows()) {
    asked.push_back(rows);
    cost.observe(3, 1000.0);  // another size says nothing yet
    cost.observe(rows, 0.0);  // nor does a clock that stood still
    cost.observe(rows, -1.0);
    EXPECT_TRUE(cost.points().empty());
    // The first time of a size is slow.
    const bool again = std::count(asked.begin(), asked.end(), rows) > 1;
    cost.observe(rows, (again ? 1.0 : 1.2) * (10 + static_cast<double>(rows)));
    ++first;
  }
  EXPECT_EQ(asked, (std::vector<int64_t>{1, 8, 4, 2, 16, 1, 8, 4, 32}));
  EXPECT_NEAR(cost.ms(1), 11, 1e-9);  // the faster of two
  EXPECT_NEAR(cost.ms(4), 14, 1e-9);
  EXPECT_NEAR(cost.ms(8), 18, 1e-9);
  EXPECT_NEAR(cost.ms(2), 14, 1e-9);  // 14.4, but 4 rows took 14
  EXPECT_NEAR(cost.ms(16), 31.2, 1e-9);
  EXPECT_NEAR(cost.ms(32), 50.4, 1e-9);
  EXPECT_EQ(cost.points().size(), 7u);

  StepCost slow;  // eight rows cost more than three steps: larger ones are not tried
  asked.clear();
  while (const int64_t rows = slow.wanted_rows()) {
    asked.push_back(rows);
    slow.observe(rows, 10 * static_cast<double>(rows));
  }
  EXPECT_EQ(asked, (std::vector<int64_t>{1, 8, 4, 2}));
  StepCost border;  // exactly three times as much is tried
  asked.clear();
  while (const int64_t rows = border.wanted_rows()) {
    asked.push_back(rows);
    border.observe(rows, rows == 1 ? 10 : rows < 16 ? 30 : 31);
  }
  EXPECT_EQ(asked, (std::vector<int64_t>{1, 8, 4, 2, 16, 1, 8, 4}));
}

// Towards a slower step by a tenth, a faster one by four tenths of the way, and never by more than from half to twice.
TEST(StepCost, FollowsWhatIsSeen) {
  const std::vector<double> points = {10, 20, 30, 40, 50, 60, 70};
  for (const auto& [rows, below] : {std::pair<int64_t, size_t>{1, 0}, {3, 1}, {4, 2}, {7, 2}, {40, 5}, {64, 6}}) {
    for (const double ratio : {1.5, 3.0, 0.8, 0.1}) {
      StepCost cost = cost_of(points);
      cost.observe(rows, ratio * cost.ms(rows));
      const double seen = std::clamp(ratio, 0.5, 2.0);
      const double factor = 1 + (seen > 1 ? 0.1 : 0.4) * (seen - 1);
      const std::vector<double> after = cost.points();
      for (size_t p = 0; p < 7; ++p) {
        const bool beside = p == below || p == below + 1;
        EXPECT_NEAR(after[p], points[p] * (beside ? factor : 1), 1e-9) << rows << " " << ratio << " " << p;
      }
    }
  }
}

TEST(StepCost, BelievesOnlyWhatCanBeTimes) {
  EXPECT_FALSE(StepCost::from_points(std::vector<double>{0, 1, 1, 1, 1, 1, 1}));
  EXPECT_FALSE(StepCost::from_points(std::vector<double>{1, 1, 1, 1, 1, 1, -1}));
  EXPECT_FALSE(StepCost::from_points(std::vector<double>{1, 1, 1, 1, 1, 1, 1e9}));
  EXPECT_FALSE(StepCost::from_points(std::vector<double>{1, 1, 1, 1, 1, 1}));
  EXPECT_TRUE(StepCost::from_points(std::vector<double>{1, 0, 0, 0, 0, 0, 0}));
}

// Against all sizes: the most expected tokens per millisecond, where one node has an advantage of 3 %.
TEST(BestTreeSize, HasTheGreatestExpectedRate) {
  Random random(6);
  std::set<int64_t> sizes;
  for (int trial = 0; trial < 2000; ++trial) {
    std::vector<double> points;
    double ms = 10;
    const double growth = random.uniform() * 0.7;
    for (int p = 0; p < 7; ++p) {
      points.push_back(ms);
      ms *= 1 + growth * random.uniform();
    }
    const StepCost cost = cost_of(points);
    DraftTree tree;
    tree.reset(0);
    double reach = 1;
    const int64_t nodes = 1 + random.below(40);
    while (tree.size() < nodes) {
      reach *= 1 - 0.4 * random.uniform() * random.uniform();
      tree.add(1, 0, reach, -1);
    }
    const int64_t batch = 1 + random.below(3);
    double best = 0;
    int64_t expected = 0;
    for (int64_t size = 1; size <= nodes; ++size) {
      double tokens = 0;
      for (int64_t n = 0; n < size; ++n) tokens += tree.expected[static_cast<size_t>(n)];
      const double rate = (size == 1 ? 1.03 : 1.0) * tokens / cost.ms(batch * size);
      if (rate > best) best = rate, expected = size;
    }
    ASSERT_EQ(best_tree_size(tree, cost, batch), expected) << trial;
    sizes.insert(expected);
  }
  EXPECT_GT(sizes.size(), 15u);
  for (const auto& [reach, expected] : {std::pair{0.02, 1}, {0.0299, 1}, {0.0301, 2}, {0.04, 2}}) {
    DraftTree tree;
    tree.reset(0);
    tree.add(1, 0, reach, -1);
    EXPECT_EQ(best_tree_size(tree, cost_of({10, 10, 10, 10, 10, 10, 10}), 1), expected) << reach;
  }
}

struct Planner {
  AcceptanceRates rates;
  StepCost cost;
  ScriptedDrafter* drafter = nullptr;
  std::unique_ptr<TreeStrategy> strategy;

  Planner(const Script& script, const SpeculationOptions& options, const StepCost& step_cost = {}, bool costly = false)
      : cost(step_cost) {
    std::vector<std::unique_ptr<Drafter>> drafters;
    drafters.push_back(std::make_unique<ScriptedDrafter>(script, costly));
    drafter = static_cast<ScriptedDrafter*>(drafters[0].get());
    strategy = std::make_unique<TreeStrategy>(options, std::move(drafters), cost, rates, 100);
  }
  DraftTree plan(int64_t max_depth = 50, int64_t batch = 1) {
    DraftTree tree;
    strategy->plan(drafter->observed.empty() ? 0 : drafter->observed.back(), {max_depth, batch}, tree);
    return tree;
  }
};

const Script kTwo = [](const Tokens& path) {
  const int32_t last = path.back();
  return std::vector<DraftChild>{{(last + 1) % 100, 0.7f}, {(last + 2) % 100, 0.2f}};
};

// The drafter's second guess is always right: it must come to stand before the first.
TEST(Learning, TheChildThatIsRightRises) {
  Planner one(kTwo, {.mode = SpeculationMode::kAuto, .tree_nodes = 3, .draft_depth = 1});
  EXPECT_EQ(one.plan().tokens[1], 1);
  const int32_t first = AcceptanceRates::kind(1, 0.7f, 1), second = AcceptanceRates::kind(1, 0.2f, 1);
  for (int i = 0; i < 40; ++i) {
    const DraftTree tree = one.plan();
    const int32_t right = tree.child(0, 2);
    ASSERT_GT(right, 0) << i;
    one.strategy->learn(tree, Tokens{0, right}, Tokens{2, 99});
  }
  EXPECT_NEAR(one.rates.rate(first, 0.7f), 6 * 0.7 / 46, 1e-4);
  EXPECT_NEAR(one.rates.rate(second, 0.2f), (40 + 6 * 0.2) / 46, 1e-4);
  EXPECT_EQ(one.plan().tokens[1], 2);
}

// Every child of every node that the model came by is one observation, the last node's children included; others are
// none.
TEST(Learning, EqualsAPlainRecount) {
  Random random(8);
  const Script script = random_script(3, 4, 0.9);
  Planner one(script, {.mode = SpeculationMode::kAuto, .tree_nodes = 24});
  AcceptanceRates expected;
  int64_t accepted = 0, refused = 0;
  for (int step = 0; step < 300; ++step) {
    one.strategy->observe(static_cast<int32_t>(random.below(4)));
    DraftTree tree = one.plan();
    tree.add(50, 0, 0.0, -1);  // one that fills the tree up
    Tokens path{0}, chosen;
    for (;;) {
      const auto token = static_cast<int32_t>(random.below(5));
      chosen.push_back(token);
      for (int64_t n = 1; n < tree.size(); ++n) {
        const auto node = static_cast<size_t>(n);
        if (tree.parents[node] != path.back() || tree.evidence[node] < 0) continue;
        expected.record(tree.evidence[node], tree.tokens[node] == token);
        ++(tree.tokens[node] == token ? accepted : refused);
      }
      const int32_t next = tree.child(path.back(), token);
      if (next < 0) break;
      path.push_back(next);
    }
    one.strategy->learn(tree, path, chosen);
  }
  EXPECT_GT(accepted, 50);
  EXPECT_GT(refused, 50);
  for (uint32_t drafters = 1; drafters < 2; ++drafters) {
    for (int thousandth = 20; thousandth < 990; thousandth += 20) {
      for (int64_t depth = 1; depth < 8; ++depth) {
        const double score = thousandth / 1000.0;
        const int32_t kind = AcceptanceRates::kind(drafters, score, depth);
        EXPECT_EQ(one.rates.rate(kind, score), expected.rate(kind, score));
      }
    }
  }
}

TEST(Planning, KeepsItsLimits) {
  for (const int64_t nodes : {1, 2, 7, 64}) {
    for (const int64_t draft_depth : {1, 3, 24}) {
      for (const int64_t max_depth : {0, 1, 2, 50}) {
        Planner one(kTwo, {.mode = SpeculationMode::kAuto, .tree_nodes = nodes, .draft_depth = draft_depth});
        const DraftTree tree = one.plan(max_depth);
        const int64_t depth = std::min(draft_depth, max_depth);
        // Two children each: so many nodes there are in all, none of the first three levels too unlikely.
        const int64_t most = depth <= 3 ? (int64_t{2} << depth) - 1 : 64;
        EXPECT_EQ(tree.size(), std::min(nodes, most));
        EXPECT_LE(*std::max_element(tree.depths.begin(), tree.depths.end()), depth);
      }
    }
  }
}

// Until step times are known a tree has the size that is to be measured, filled up with tokens that nobody proposed.
TEST(Planning, TakesTheSizesThatAreToBeMeasured) {
  for (const int64_t batch : {1, 3}) {
    Planner one(kTwo, {.mode = SpeculationMode::kAuto}, {});
    for (int step = 0; step < 9; ++step) {
      const int64_t rows = one.cost.wanted_rows(), nodes = std::max<int64_t>(1, rows / batch);
      const DraftTree tree = one.plan(50, batch);
      ASSERT_EQ(tree.size(), nodes) << rows;
      std::set<std::pair<int32_t, int32_t>> children;
      for (int64_t n = 1; n < nodes; ++n) {
        const auto node = static_cast<size_t>(n);
        EXPECT_TRUE(children.insert({tree.parents[node], tree.tokens[node]}).second);  // no child twice
      }
      EXPECT_EQ(one.plan(0, batch).size(), 1);  // nothing may follow
      one.cost.observe(rows, 10.0);
    }
    EXPECT_EQ(one.cost.wanted_rows(), 0);
  }
  Planner none([](const Tokens&) { return std::vector<DraftChild>{}; }, {.mode = SpeculationMode::kAuto}, {});
  none.cost.observe(1, 10.0);
  const DraftTree filled = none.plan();
  EXPECT_EQ(filled.size(), 8);
  for (int64_t n = 1; n < 8; ++n) {
    EXPECT_EQ(filled.parents[static_cast<size_t>(n)], 0);
    EXPECT_EQ(filled.evidence[static_cast<size_t>(n)], -1);  // nothing to learn from
  }
  // What is proposed already does not come twice.
  Planner few(
      [](const Tokens& path) {
        return std::vector<DraftChild>(path.size() == 1, {3, 0.5f});
      },
      {.mode = SpeculationMode::kAuto}, {});
  few.cost.observe(1, 10.0);
  EXPECT_EQ(few.plan().tokens, (Tokens{0, 3, 0, 1, 2, 4, 5, 6}));
}

// Trees pay: the best size, but every 32nd step alone. They do not: alone, but every 32nd with four nodes.
TEST(Planning, LooksNowAndThenAtWhatItDoesNotDo) {
  const StepCost flat = cost_of({10, 10, 10, 10, 10, 10, 10}), steep = cost_of({10, 40, 80, 160, 320, 640, 1280});
  Planner paying(kTwo, {.mode = SpeculationMode::kAuto}, flat), alone(kTwo, {.mode = SpeculationMode::kAuto}, steep);
  for (int step = 1; step <= 100; ++step) {
    EXPECT_EQ(paying.plan().size(), step % 32 == 0 ? 1 : 32) << step;
    EXPECT_EQ(alone.plan().size(), step % 32 == 0 ? 4 : 1) << step;
  }
  const StepCost measured = cost_of({10, 11, 12.5, 15, 20, 30, 60});
  Planner one(kTwo, {.mode = SpeculationMode::kAuto}, measured);
  Planner whole(kTwo, {.mode = SpeculationMode::kAuto, .tree_nodes = 32}, measured);
  const int64_t best = best_tree_size(whole.plan(), measured, 1);
  EXPECT_GT(best, 1);
  EXPECT_LT(best, 32);
  EXPECT_EQ(one.plan().size(), best);
}

// Guesses that take time are left out where trees have not paid for eight steps, but for every eighth.
TEST(Planning, AsksCostlyDraftersLessWhereTreesDoNotPay) {
  const StepCost steep = cost_of({10, 40, 80, 160, 320, 640, 1280});
  Planner one(kTwo, {.mode = SpeculationMode::kAuto}, steep, /*costly=*/true);
  std::vector<int> asked;
  for (int step = 0; step < 31; ++step) {
    const int before = one.drafter->roots;
    one.plan();
    if (one.drafter->roots > before) asked.push_back(step);
  }
  EXPECT_EQ(asked, (std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7, 8, 16, 24}));
  Planner fixed(kTwo, {.mode = SpeculationMode::kAuto, .tree_nodes = 4}, steep, /*costly=*/true);
  for (int step = 0; step < 31; ++step) EXPECT_EQ(fixed.plan().size(), 4);
}

// Drafts that are right for a while, then wrong: at every root the drafter has observed the whole text in order, and
// has seen the state that its newest token was drawn from.
TEST(Drafting, KnowsTheTextAndTheStateBehindIt) {
  const auto model = testing::load_tiny_model({.attention = {"lolcats(group=8)"}});
  Workspace workspace(1);
  GenerateRequest request{.prompt = testing::random_tokens(9, 97, 3)};
  request.options.max_tokens = 40;
  const Tokens written = Generator(*model, nullptr, workspace).generate(request).tokens;
  Tokens text = request.prompt;
  text.insert(text.end(), written.begin(), written.end());

  struct Root {
    Tokens observed;
    std::vector<float> hidden;
  };
  std::vector<Root> roots;
  class Recorder : public ScriptedDrafter {
   public:
    Recorder(const Script& script, int64_t width, std::vector<Root>& all)
        : ScriptedDrafter(script), width_(width), roots_(all) {}
    void see(const float* hidden) override { hidden_.assign(hidden, hidden + width_); }
    DraftCursor root() override {
      roots_.push_back({observed, hidden_});
      return ScriptedDrafter::root();
    }

   private:
    int64_t width_;
    std::vector<Root>& roots_;
    std::vector<float> hidden_;
  };
  Recorder* recorder = nullptr;
  // The true next token, in every third place a false one, and a false one beside it.
  const Script script = [&](const Tokens& path) {
    const size_t at = recorder->observed.size() + path.size() - 1;
    if (at >= text.size()) return std::vector<DraftChild>{};
    const int32_t truth = text[at], lie = (truth + 1) % 97;
    if (at % 3 == 0) return std::vector<DraftChild>{{lie, 0.9f}};
    return std::vector<DraftChild>{{lie, 0.3f}, {truth, 0.6f}};
  };
  request.options.speculation = {.mode = SpeculationMode::kAuto, .tree_nodes = 9, .make_drafters = [&] {
                                   auto own = std::make_unique<Recorder>(script, model->config().hidden_size, roots);
                                   recorder = own.get();
                                   std::vector<std::unique_ptr<Drafter>> drafters;
                                   drafters.push_back(std::move(own));
                                   return drafters;
                                 }};
  const GenerateResult result = Generator(*model, nullptr, workspace).generate(request);
  EXPECT_EQ(result.tokens, written);
  EXPECT_GT(result.stats.accepted, 15);
  ASSERT_EQ(std::ssize(roots), result.stats.steps);
  size_t known = request.prompt.size() + 1;
  for (size_t i = 0; i < roots.size(); ++i) {
    ASSERT_EQ(roots[i].observed, Tokens(text.begin(), text.begin() + static_cast<int64_t>(known))) << i;
    SequenceState state = model->new_state();
    StepOutput output;
    const Segment segment{.state = &state, .tokens = std::span(text).first(known - 1), .outputs = Output::kHidden};
    model->step({&segment, 1}, workspace, output);
    const float* hidden = output.hidden(0, static_cast<int64_t>(known) - 2);
    ASSERT_EQ(roots[i].hidden, std::vector<float>(hidden, hidden + model->config().hidden_size)) << i;
    known += static_cast<size_t>(result.stats.step_tokens[i]);
  }
}

}  // namespace
}  // namespace espalier
