// Prompt look-up: the automaton against naive searches of the whole text, and what is drafted from it.
#include "decoding/drafters/lookup.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "core/rng.h"
#include "decoding/drafters/suffix_automaton.h"

namespace espalier {
namespace {

using Tokens = std::vector<int32_t>;

// How often `part` stands in text[0, end).
int64_t occurrences(const Tokens& text, size_t end, const Tokens& part) {
  int64_t count = 0;
  for (size_t i = part.size(); i <= end; ++i) {
    count += std::equal(part.begin(), part.end(), text.begin() + static_cast<int64_t>(i - part.size()));
  }
  return count;
}

Tokens last_of(const Tokens& text, size_t length) {
  return {text.end() - static_cast<int64_t>(length), text.end()};
}

// The longest suffix of the text that also ends somewhere before.
size_t longest_repeated_suffix(const Tokens& text) {
  for (size_t length = text.size() - 1; length > 0; --length) {
    if (occurrences(text, text.size() - 1, last_of(text, length)) > 0) return length;
  }
  return 0;
}

int32_t walk(const SuffixAutomaton& automaton, const Tokens& part) {
  int32_t state = 0;
  for (const int32_t token : part) {
    if (state >= 0) state = automaton.next(state, token);
  }
  return state;
}

TEST(SuffixAutomaton, KnowsEverySubstringAndNoOther) {
  for (const int64_t alphabet : {1, 2, 3, 8}) {
    Random random(static_cast<uint64_t>(alphabet));
    SuffixAutomaton automaton;
    Tokens text;
    for (int i = 0; i < 60; ++i) {
      text.push_back(static_cast<int32_t>(random.below(alphabet)));
      automaton.append(text.back());
      EXPECT_EQ(automaton.size(), i + 1);
      EXPECT_EQ(automaton.length(automaton.last()), i + 1);
      EXPECT_EQ(walk(automaton, text), automaton.last());
      EXPECT_EQ(static_cast<size_t>(automaton.length(automaton.link(automaton.last()))), longest_repeated_suffix(text));
    }
    for (int trial = 0; trial < 500; ++trial) {
      Tokens part;
      for (int64_t i = 0; i < 1 + random.below(7); ++i)
        part.push_back(static_cast<int32_t>(random.below(alphabet + 1)));
      const int64_t count = occurrences(text, text.size(), part);
      const int32_t state = walk(automaton, part);
      ASSERT_EQ(state >= 0, count > 0);
      if (state < 0) continue;
      EXPECT_EQ(automaton.count(state), count);
      EXPECT_GE(automaton.length(state), static_cast<int32_t>(part.size()));
      EXPECT_LT(automaton.length(automaton.link(state)), static_cast<int32_t>(part.size()));
      // Its edges are the tokens that follow it, each once.
      std::map<int32_t, int> edges;
      for (int32_t e = automaton.first_edge(state); e >= 0; e = automaton.edge(e).next)
        ++edges[automaton.edge(e).token];
      for (int32_t token = 0; token <= alphabet; ++token) {
        Tokens longer = part;
        longer.push_back(token);
        EXPECT_EQ(edges[token], occurrences(text, text.size(), longer) > 0 ? 1 : 0);
      }
    }
    automaton.reset();
    EXPECT_EQ(automaton.size(), 0);
    EXPECT_EQ(automaton.next(0, text[0]), -1);
  }
}

// Up to three repeated suffixes, the longest first: shares of what followed each, believed by length / (length + 2),
// the rest for the next shorter one that has other continuations.
std::map<int32_t, double> plain_scores(const Tokens& text, Tokens suffix) {
  std::map<int32_t, double> scores;
  double mass = 1;
  for (int mixed = 0; mixed < 3 && !suffix.empty(); ++mixed) {
    const int64_t ends = occurrences(text, text.size(), suffix);
    std::map<int32_t, int64_t> follows;
    double total = 0;
    for (size_t i = suffix.size(); i < text.size(); ++i) {
      if (std::equal(suffix.begin(), suffix.end(), text.begin() + static_cast<int64_t>(i - suffix.size()))) {
        ++follows[text[i]];
        total += 1;
      }
    }
    const double trust = static_cast<double>(suffix.size()) / (static_cast<double>(suffix.size()) + 2);
    for (const auto& [token, count] : follows) scores[token] += mass * trust * static_cast<double>(count) / total;
    if (total > 0) mass *= 1 - trust;
    // The next shorter suffix that stands in more places.
    do {
      suffix.erase(suffix.begin());
    } while (!suffix.empty() && occurrences(text, text.size(), suffix) == ends);
  }
  return scores;
}

void expect_children(const std::vector<DraftChild>& children, const std::map<int32_t, double>& expected) {
  ASSERT_EQ(children.size(), std::min<size_t>(8, expected.size()));
  double sum = 0;
  for (size_t i = 0; i < children.size(); ++i) {
    ASSERT_TRUE(expected.contains(children[i].token));
    EXPECT_NEAR(children[i].score, expected.at(children[i].token), 1e-6);
    if (i > 0) {
      EXPECT_LE(children[i].score, children[i - 1].score);
    }
    sum += children[i].score;
  }
  EXPECT_LE(sum, 1 + 1e-6);
  for (const auto& [token, score] : expected) {  // the likeliest of all
    const bool there = std::any_of(children.begin(), children.end(),
                                   [token = token](const DraftChild& child) { return child.token == token; });
    if (!there) {
      EXPECT_LE(score, children.back().score + 1e-6);
    }
  }
}

TEST(LookupDrafter, GivesTheSharesOfWhatFollowedTheLongestSuffixes) {
  for (const int64_t alphabet : {2, 3, 5, 12}) {
    Random random(static_cast<uint64_t>(alphabet) + 7);
    LookupDrafter drafter;
    std::vector<DraftChild> children;
    drafter.children(drafter.root(), 1.0, children);
    EXPECT_TRUE(children.empty());
    Tokens text;
    for (int i = 0; i < 70; ++i) {
      text.push_back(static_cast<int32_t>(random.below(alphabet)));
      drafter.observe(text.back());
      const size_t length = longest_repeated_suffix(text);
      const DraftCursor root = drafter.root();
      EXPECT_EQ(static_cast<size_t>(root.extra), length);
      children.clear();
      drafter.children(root, 1.0, children);
      expect_children(children, plain_scores(text, last_of(text, length)));
      // One further: the longest suffix of (matched suffix + token) that stands in the text.
      const auto token = static_cast<int32_t>(random.below(alphabet + 1));
      Tokens path = last_of(text, length);
      path.push_back(token);
      while (!path.empty() && occurrences(text, text.size(), path) == 0) path.erase(path.begin());
      const DraftCursor next = drafter.advance(root, token);
      EXPECT_EQ(static_cast<size_t>(next.extra), path.size());
      children.clear();
      drafter.children(next, 1.0, children);
      expect_children(children, plain_scores(text, path));
    }
    drafter.reset();
    children.clear();
    drafter.children(drafter.root(), 1.0, children);
    EXPECT_TRUE(children.empty());
  }
}

// A text that repeats is drafted right from its second period on, to any depth.
TEST(LookupDrafter, DraftsAPeriodicTextRightAfterOnePeriod) {
  for (const int32_t period : {1, 2, 3, 7, 20}) {
    LookupDrafter drafter;
    for (int32_t i = 0; i < 4 * period; ++i) {
      drafter.observe(i % period + 50);
      if (i < period) continue;
      DraftCursor cursor = drafter.root();
      for (int32_t ahead = 1; ahead < 6; ++ahead) {
        std::vector<DraftChild> children;
        drafter.children(cursor, 1.0, children);
        // The newest place of a period of one has nothing behind it yet.
        if (period == 1 && ahead >= i) break;
        ASSERT_FALSE(children.empty()) << period << " " << i << " " << ahead;
        ASSERT_EQ(children[0].token, (i + ahead) % period + 50) << period << " " << i << " " << ahead;
        cursor = drafter.advance(cursor, children[0].token);
      }
    }
  }
}

// Beyond twice kRemembered tokens the oldest go, and what is left is as if there had been nothing before.
TEST(LookupDrafter, ForgetsTheOldestAndKeepsTheRest) {
  constexpr auto kRemembered = LookupDrafter::kRemembered;
  Random random(3);
  Tokens text;
  for (size_t i = 0; i < 2 * kRemembered + 1; ++i) text.push_back(static_cast<int32_t>(random.below(1000)));
  text[10] = 5000, text[11] = 5001;                            // among the oldest
  text[kRemembered + 1] = 6000, text[kRemembered + 2] = 6001;  // the first that stay
  LookupDrafter drafter;
  const auto guess_after = [&](int32_t token) {
    std::vector<DraftChild> children;
    drafter.children(drafter.advance({}, token), 1.0, children);
    return children.empty() ? -1 : children[0].token;
  };
  for (size_t i = 0; i < 2 * kRemembered; ++i) drafter.observe(text[i]);
  EXPECT_EQ(guess_after(5000), 5001);
  drafter.observe(text.back());
  EXPECT_EQ(guess_after(5000), -1);
  EXPECT_EQ(guess_after(6000), 6001);
}

}  // namespace
}  // namespace espalier
