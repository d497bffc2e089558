#include "decoding/drafters/lookup.h"

#include <algorithm>

namespace espalier {
namespace {

constexpr int kSuffixes = 3;        // matches of different lengths that are mixed
constexpr int kEdgesLookedAt = 32;  // of a state, youngest first
constexpr size_t kMaxChildren = 8;

// How far a continuation of a match of this many tokens is believed.
double trust(int32_t length) {
  return static_cast<double>(length) / (static_cast<double>(length) + 2.0);
}

}  // namespace

void LookupDrafter::reset() {
  automaton_.reset();
  tokens_.clear();
}

void LookupDrafter::observe(int32_t token) {
  if (tokens_.size() == 2 * kRemembered) {
    tokens_.erase(tokens_.begin(), tokens_.end() - kRemembered);
    automaton_.reset();
    for (const int32_t kept : tokens_) automaton_.append(kept);
  }
  tokens_.push_back(token);
  automaton_.append(token);
}

// The cursor: a state, and how many tokens of it match.
DraftCursor LookupDrafter::root() {
  if (automaton_.last() == 0) return {};
  const int32_t state = automaton_.link(automaton_.last());
  return {state, automaton_.length(state)};
}

void LookupDrafter::children(DraftCursor cursor, double, std::vector<DraftChild>& out) {
  const size_t first = out.size();
  double mass = 1;
  int32_t state = static_cast<int32_t>(cursor.value), length = static_cast<int32_t>(cursor.extra);
  for (int suffix = 0; suffix < kSuffixes && state > 0; ++suffix) {
    double total = 0;
    int looked = 0;
    for (int32_t e = automaton_.first_edge(state); e >= 0 && looked < kEdgesLookedAt; e = automaton_.edge(e).next) {
      total += automaton_.count(automaton_.edge(e).target);
      ++looked;
    }
    looked = 0;
    const double share = total > 0 ? mass * trust(length) / total : 0;
    for (int32_t e = automaton_.first_edge(state); e >= 0 && looked < kEdgesLookedAt; e = automaton_.edge(e).next) {
      const SuffixAutomaton::Edge& edge = automaton_.edge(e);
      const float score = static_cast<float>(share * automaton_.count(edge.target));
      const auto same = std::find_if(out.begin() + static_cast<int64_t>(first), out.end(),
                                     [&](const DraftChild& child) { return child.token == edge.token; });
      if (same == out.end()) {
        out.push_back({edge.token, score});
      } else {
        same->score += score;
      }
      ++looked;
    }
    if (total > 0) mass *= 1 - trust(length);
    state = automaton_.link(state);
    length = automaton_.length(state);
  }
  keep_likeliest(out, first, kMaxChildren);
}

DraftCursor LookupDrafter::advance(DraftCursor cursor, int32_t token) {
  int32_t state = static_cast<int32_t>(cursor.value), length = static_cast<int32_t>(cursor.extra);
  int32_t target = automaton_.next(state, token);
  while (target < 0 && state > 0) {
    state = automaton_.link(state);
    length = automaton_.length(state);
    target = automaton_.next(state, token);
  }
  if (target < 0) return {};
  return {target, length + 1};
}

}  // namespace espalier
