// A drafter for tests: knows what plain decoding will say, and mixes right tokens with wrong ones.
#pragma once

#include <vector>

#include "core/rng.h"
#include "decoding/drafters/drafter.h"

namespace espalier::testing {

// How often the right token is among the children, how likely it and the two wrong ones claim to be.
struct DrafterManner {
  double tells = 0.8;
  float right = 0.6f, wrong[2] = {0.5f, 0.2f};
};
// Its trees are broad: wrong tokens are taken for nearly as likely as the right one.
inline constexpr DrafterManner kDoubtful{};
// Its trees are one deep path with a few leaves, accepted nearly to the end.
inline constexpr DrafterManner kConfident{.tells = 0.97, .right = 0.97f, .wrong = {0.3f, 0.02f}};

// Proposes up to three children: the right token in most places while the path is right, and random ones. So trees
// branch, some paths are accepted for many tokens, and some drafts are wrong from their first node.
class AdversarialDrafter : public Drafter {
 public:
  // `text`: the prompt, then what plain decoding gave.
  AdversarialDrafter(std::vector<int32_t> text, int64_t vocab_size, uint64_t seed,
                     const DrafterManner& manner = kDoubtful)
      : text_(std::move(text)), vocab_size_(vocab_size), seed_(seed), manner_(manner) {}

  void reset() override { observed_ = 0; }
  void observe(int32_t) override { ++observed_; }
  DraftCursor root() override { return {observed_, 1}; }
  void children(DraftCursor cursor, double, std::vector<DraftChild>& out) override {
    const bool known = cursor.extra == 1 && cursor.value < static_cast<int64_t>(text_.size());
    const int32_t right = known ? text_[static_cast<size_t>(cursor.value)] : -1;
    const bool tells = known && random_uniform(seed_, 1, static_cast<uint64_t>(cursor.value)) < manner_.tells;
    for (uint64_t i = 0; i < 2; ++i) {
      const auto draw = random_uniform(seed_, 2 + i, static_cast<uint64_t>(cursor.value));
      const auto token = static_cast<int32_t>(draw * static_cast<double>(vocab_size_));
      if (token != right && (out.empty() || out.back().token != token)) out.push_back({token, manner_.wrong[i]});
    }
    if (tells) out.push_back({right, manner_.right});
  }
  DraftCursor advance(DraftCursor cursor, int32_t token) override {
    const bool right = cursor.extra == 1 && cursor.value < static_cast<int64_t>(text_.size()) &&
                       text_[static_cast<size_t>(cursor.value)] == token;
    return {cursor.value + 1, right ? 1 : 0};
  }

 private:
  std::vector<int32_t> text_;
  int64_t vocab_size_;
  uint64_t seed_;
  DrafterManner manner_;
  int64_t observed_ = 0;
};

}  // namespace espalier::testing
