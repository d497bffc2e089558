#include "decoding/drafters/suffix_automaton.h"

namespace espalier {

void SuffixAutomaton::reset() {
  states_.assign(1, {0, -1, 0, -1});
  edges_.clear();
  edge_of_.clear();
  last_ = 0;
  size_ = 0;
}

int32_t SuffixAutomaton::next(int32_t state, int32_t token) const {
  const auto found = edge_of_.find(key(state, token));
  return found == edge_of_.end() ? -1 : edge(found->second).target;
}

void SuffixAutomaton::add_edge(int32_t state, int32_t token, int32_t target) {
  const int32_t index = static_cast<int32_t>(edges_.size());
  edges_.push_back({token, target, states_[static_cast<size_t>(state)].first_edge});
  states_[static_cast<size_t>(state)].first_edge = index;
  edge_of_.emplace(key(state, token), index);
}

// A state with the original's edges and suffixes, for its strings of at most `length` tokens.
int32_t SuffixAutomaton::clone(int32_t original, int32_t length) {
  const int32_t copy = static_cast<int32_t>(states_.size());
  states_.push_back({length, link(original), count(original), -1});
  std::vector<int32_t> order;
  for (int32_t e = first_edge(original); e >= 0; e = edge(e).next) order.push_back(e);
  for (auto e = order.rbegin(); e != order.rend(); ++e) add_edge(copy, edge(*e).token, edge(*e).target);
  states_[static_cast<size_t>(original)].link = copy;
  return copy;
}

void SuffixAutomaton::append(int32_t token) {
  const int32_t state = static_cast<int32_t>(states_.size());
  states_.push_back({length(last_) + 1, 0, 0, -1});
  int32_t from = last_;
  for (; from >= 0 && next(from, token) < 0; from = link(from)) add_edge(from, token, state);
  if (from >= 0) {
    int32_t target = next(from, token);
    if (length(target) != length(from) + 1) {
      const int32_t copy = clone(target, length(from) + 1);
      for (int32_t s = from; s >= 0 && next(s, token) == target; s = link(s)) {
        edges_[static_cast<size_t>(edge_of_.at(key(s, token)))].target = copy;
      }
      target = copy;
    }
    states_[static_cast<size_t>(state)].link = target;
  }
  last_ = state;
  ++size_;
  int32_t counted = state;
  for (int links = 0; links < kCountedLinks && counted > 0; ++links, counted = link(counted)) {
    ++states_[static_cast<size_t>(counted)].count;
  }
}

}  // namespace espalier
