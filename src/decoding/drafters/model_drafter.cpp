#include "decoding/drafters/model_drafter.h"

#include <algorithm>
#include <string>

#include "core/error.h"
#include "decoding/drafters/likeliest.h"

namespace espalier {
namespace {

// Guesses at a node, and the reach below which none is worth its time.
constexpr int64_t kGuesses = 4;
constexpr double kLeastReach = 0.15, kLeastProbability = 0.03;

}  // namespace

ModelDrafter::ModelDrafter(const Model& model, int threads)
    : model_(model), workspace_(threads), state_(model.new_state()) {}

void ModelDrafter::reset() {
  state_ = model_.new_state();
  pending_.clear();
}

void ModelDrafter::observe(int32_t token) {
  pending_.push_back(token);
}

// The root is the newest token; all before it go into the state.
DraftCursor ModelDrafter::root() {
  nodes_.clear();
  const int64_t length = state_.length() + static_cast<int64_t>(pending_.size());
  if (pending_.empty() || length > model_.max_positions()) return {-1, 0};
  if (pending_.size() > 1) {
    const std::span<const int32_t> past = std::span(pending_).first(pending_.size() - 1);
    model_.prefill(state_, past, workspace_, nullptr, nullptr);
    pending_.erase(pending_.begin(), pending_.end() - 1);
  }
  nodes_.push_back({-1, pending_.back()});
  return {0, 0};
}

DraftCursor ModelDrafter::advance(DraftCursor cursor, int32_t token) {
  if (cursor.value < 0) return cursor;
  nodes_.push_back({cursor.value, token});
  return {static_cast<int64_t>(nodes_.size()) - 1, 0};
}

void ModelDrafter::children(DraftCursor cursor, double reach, std::vector<DraftChild>& out) {
  if (cursor.value < 0 || reach < kLeastReach) return;
  std::vector<int32_t> path;
  for (int64_t node = cursor.value; node >= 0; node = nodes_[static_cast<size_t>(node)].parent) {
    path.push_back(nodes_[static_cast<size_t>(node)].token);
  }
  std::reverse(path.begin(), path.end());
  const auto rows = static_cast<int64_t>(path.size());
  if (state_.length() + rows > model_.max_positions()) return;
  const Segment segment{.state = &state_, .tokens = path, .wanted = Wanted::kLast};
  model_.step({&segment, 1}, workspace_, output_);
  const float* logits = output_.logits(0, rows - 1);
  const int64_t n = model_.config().vocab_size;
  scores_.resize(static_cast<size_t>(n));
  add_likeliest(model_.kernels(), logits, n, kLeastProbability, kGuesses, scores_.data(), out);
}

void check_draft_model(const Model& draft, const Model& model) {
  if (draft.config().bidirectional || draft.config().encoder_layers > 0) {
    throw InvalidArgument(error_text("draft model", "a decoder", draft.config().family));
  }
  if (draft.config().vocab_size == model.config().vocab_size) return;
  throw InvalidArgument(error_text("draft model", std::to_string(model.config().vocab_size) + " tokens, as the model",
                                   std::to_string(draft.config().vocab_size), "a smaller model of the same family"));
}

}  // namespace espalier
