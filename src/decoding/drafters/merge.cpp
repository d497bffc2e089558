#include "decoding/drafters/merge.h"

#include <algorithm>
#include <array>
#include <queue>
#include <vector>

#include "core/error.h"

namespace espalier {
namespace {

// A node that no step would pay for is not worth drafting.
constexpr double kLeastReach = 1e-3;
constexpr double kLeastScore = 1e-4, kGreatestScore = 0.99;

using Cursors = std::array<DraftCursor, AcceptanceRates::kMaxDrafters>;

struct Candidate {
  double reach;
  int64_t order;  // first come, first taken among equals
  int32_t token, parent, kind;

  bool operator<(const Candidate& other) const {
    return reach != other.reach ? reach < other.reach : order > other.order;
  }
};

struct Proposal {
  int32_t token;
  double score;
  uint32_t drafters;
};

class Grower {
 public:
  Grower(std::span<const std::unique_ptr<Drafter>> drafters, const AcceptanceRates& rates, const GrowOptions& options,
         DraftTree& tree)
      : drafters_(drafters), rates_(rates), options_(options), tree_(tree) {}

  void grow() {
    tree_.reset(options_.root);
    Cursors cursors;
    for (size_t i = 0; i < drafters_.size(); ++i) {
      if (asked(i)) cursors[i] = drafters_[i]->root();
    }
    cursors_.push_back(cursors);
    propose(0);
    while (tree_.size() < options_.nodes && !queue_.empty()) {
      const Candidate best = queue_.top();
      queue_.pop();
      const int32_t node = static_cast<int32_t>(tree_.size());
      tree_.add(best.token, best.parent, best.reach, best.kind);
      if (tree_.size() == options_.nodes) break;
      for (size_t i = 0; i < drafters_.size(); ++i) {
        if (asked(i)) cursors[i] = drafters_[i]->advance(cursors_[static_cast<size_t>(best.parent)][i], best.token);
      }
      cursors_.push_back(cursors);
      propose(node);
    }
  }

 private:
  bool asked(size_t drafter) const { return options_.costly || !drafters_[drafter]->costly(); }

  // Queues the children that any drafter sees after `node`.
  void propose(int32_t node) {
    const int64_t depth = tree_.depths[static_cast<size_t>(node)] + 1;
    if (depth > options_.max_depth) return;
    collect(cursors_[static_cast<size_t>(node)], tree_.expected[static_cast<size_t>(node)]);
    double sum = 0;
    for (Proposal& proposal : proposals_) {
      const int32_t kind = AcceptanceRates::kind(proposal.drafters, proposal.score, depth);
      kinds_.push_back(kind);
      proposal.score = rates_.rate(kind, proposal.score);
      sum += proposal.score;
    }
    const double reach = tree_.expected[static_cast<size_t>(node)] * std::min(1.0, kGreatestScore / sum);
    for (size_t i = 0; i < proposals_.size(); ++i) {
      const double expected = reach * proposals_[i].score;
      if (expected >= kLeastReach) queue_.push({expected, order_++, proposals_[i].token, node, kinds_[i]});
    }
  }

  // proposals_ = the children of all drafters, a token once: its score is 1 - the product of (1 - score).
  void collect(const Cursors& cursors, double reach) {
    proposals_.clear();
    kinds_.clear();
    for (size_t i = 0; i < drafters_.size(); ++i) {
      if (!asked(i)) continue;
      children_.clear();
      drafters_[i]->children(cursors[i], reach, children_);
      for (const DraftChild& child : children_) {
        const double score = std::clamp(static_cast<double>(child.score), kLeastScore, kGreatestScore);
        const auto same = std::find_if(proposals_.begin(), proposals_.end(),
                                       [&](const Proposal& proposal) { return proposal.token == child.token; });
        if (same == proposals_.end()) {
          proposals_.push_back({child.token, score, 1u << i});
        } else {
          same->score = std::min(kGreatestScore, 1 - (1 - same->score) * (1 - score));
          same->drafters |= 1u << i;
        }
      }
    }
  }

  std::span<const std::unique_ptr<Drafter>> drafters_;
  const AcceptanceRates& rates_;
  const GrowOptions& options_;
  DraftTree& tree_;
  std::vector<Cursors> cursors_;  // per node
  std::priority_queue<Candidate> queue_;
  std::vector<Proposal> proposals_;
  std::vector<int32_t> kinds_;
  std::vector<DraftChild> children_;
  int64_t order_ = 0;
};

}  // namespace

void grow_tree(std::span<const std::unique_ptr<Drafter>> drafters, const AcceptanceRates& rates,
               const GrowOptions& options, DraftTree& tree) {
  ESPALIER_CHECK(drafters.size() <= AcceptanceRates::kMaxDrafters);
  Grower(drafters, rates, options, tree).grow();
}

}  // namespace espalier
