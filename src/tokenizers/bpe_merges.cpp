#include "tokenizers/bpe_merges.h"

#include <queue>

namespace espalier {

void BpeMerges::apply(std::vector<int32_t>& ids) const {
  constexpr int32_t kNone = -1, kMergedAway = -2;
  struct Node {
    int32_t id, previous, next;
  };
  struct Candidate {
    int32_t rank, left, left_id, right_id;
    bool operator<(const Candidate& other) const { return rank != other.rank ? rank > other.rank : left > other.left; }
  };
  const int32_t count = static_cast<int32_t>(ids.size());
  std::vector<Node> nodes(ids.size());
  std::priority_queue<Candidate> candidates;
  const auto consider = [&](int32_t left) {
    if (left < 0 || nodes[left].next < 0) return;
    const int32_t right = nodes[left].next;
    if (nodes[left].id < 0 || nodes[right].id < 0) return;
    const auto it = merges_.find(key(nodes[left].id, nodes[right].id));
    if (it != merges_.end()) candidates.push({it->second.rank, left, nodes[left].id, nodes[right].id});
  };
  for (int32_t i = 0; i < count; ++i) nodes[i] = {ids[i], i - 1, i + 1 < count ? i + 1 : kNone};
  for (int32_t i = 0; i < count; ++i) consider(i);
  while (!candidates.empty()) {
    const Candidate best = candidates.top();
    candidates.pop();
    Node& left = nodes[best.left];
    // Merged away or changed since it was found.
    if (left.id != best.left_id || left.next < 0 || nodes[left.next].id != best.right_id) continue;
    Node& right = nodes[left.next];
    left.id = merges_.find(key(best.left_id, best.right_id))->second.result;
    left.next = right.next;
    right.id = kMergedAway;
    if (left.next >= 0) nodes[left.next].previous = best.left;
    consider(left.previous);
    consider(best.left);
  }
  ids.clear();
  for (int32_t i = count > 0 ? 0 : kNone; i >= 0; i = nodes[i].next) ids.push_back(nodes[i].id);
}

}  // namespace espalier
