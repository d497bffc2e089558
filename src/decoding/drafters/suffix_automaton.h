// All substrings of a growing text in one automaton (Blumer et al. 1985), built token by token.
#pragma once

#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <vector>

namespace espalier {

// A state stands for the substrings that end at the same positions; they are suffixes of one another, from
// length(link(state)) + 1 to length(state) tokens. State 0 is the empty string. At most 2 states and 3 edges per
// token; append() is O(1) amortised. Not thread-safe for writing.
class SuffixAutomaton {
 public:
  struct Edge {
    int32_t token, target, next;  // next: the state's edge that was made before, -1
  };

  SuffixAutomaton() { reset(); }
  void reset();
  void append(int32_t token);

  int64_t size() const { return size_; }
  // The state of the whole text. link(last()) is the longest suffix that occurs earlier too.
  int32_t last() const { return last_; }
  int32_t link(int32_t state) const { return states_[static_cast<size_t>(state)].link; }
  int32_t length(int32_t state) const { return states_[static_cast<size_t>(state)].length; }
  // How often the state's strings occur. An update goes kCountedLinks suffixes up, so that of very repetitive texts
  // the counts of short strings may fall behind.
  int32_t count(int32_t state) const { return states_[static_cast<size_t>(state)].count; }
  // -1: the string does not go on that way.
  int32_t next(int32_t state, int32_t token) const;
  // The state's edges, youngest first: for (e = first_edge(s); e >= 0; e = edge(e).next).
  int32_t first_edge(int32_t state) const { return states_[static_cast<size_t>(state)].first_edge; }
  const Edge& edge(int32_t index) const { return edges_[static_cast<size_t>(index)]; }

  static constexpr int kCountedLinks = 64;

 private:
  struct State {
    int32_t length, link, count, first_edge;
  };

  static uint64_t key(int32_t state, int32_t token) {
    return (static_cast<uint64_t>(static_cast<uint32_t>(state)) << 32) | static_cast<uint32_t>(token);
  }
  void add_edge(int32_t state, int32_t token, int32_t target);
  int32_t clone(int32_t original, int32_t length);

  std::vector<State> states_;
  std::vector<Edge> edges_;
  std::unordered_map<uint64_t, int32_t> edge_of_;  // (state, token) -> edge
  int32_t last_ = 0;
  int64_t size_ = 0;
};

}  // namespace espalier
