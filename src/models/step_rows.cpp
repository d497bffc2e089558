#include "models/step_rows.h"

#include <algorithm>
#include <string>

#include "core/error.h"

namespace espalier {
namespace {

[[noreturn]] void refuse(const std::string& expected, const std::string& got) {
  throw InvalidArgument(error_text("step", expected, got));
}

// Parents and depths of one segment, appended to `rows`; returns the greatest depth.
int64_t append_tree(const Segment& segment, StepRows& rows) {
  const int64_t count = static_cast<int64_t>(segment.tokens.size());
  const size_t first = rows.depths.size();
  int64_t deepest = 0;
  bool chain = true;
  for (int64_t r = 0; r < count; ++r) {
    const int64_t parent = segment.parents.empty() ? r - 1 : segment.parents[r];
    if (parent < -1 || parent >= r || (r == 0 && parent != -1)) {
      refuse("parent of row " + std::to_string(r) + " in [-1, " + std::to_string(r) + ")", std::to_string(parent));
    }
    chain = chain && parent == r - 1;
    const int64_t depth = parent < 0 ? 0 : rows.depths[first + static_cast<size_t>(parent)] + 1;
    deepest = std::max(deepest, depth);
    rows.parents.push_back(static_cast<int32_t>(parent));
    rows.depths.push_back(static_cast<int32_t>(depth));
    rows.positions.push_back(segment.state->length() + depth);
  }
  rows.chain.push_back(chain);
  return deepest;
}

void check_tokens(const Segment& segment, int64_t vocab_size) {
  for (const int32_t token : segment.tokens) {
    if (token < 0 || token >= vocab_size) {
      refuse("a token in [0, " + std::to_string(vocab_size) + ")", std::to_string(token));
    }
  }
}

void append_token_types(const Segment& segment, int64_t types, StepRows& rows) {
  if (!segment.token_types.empty() && segment.token_types.size() != segment.tokens.size()) {
    refuse(std::to_string(segment.tokens.size()) + " token types", std::to_string(segment.token_types.size()));
  }
  for (const int32_t type : segment.token_types) {
    if (type < 0 || type >= std::max<int64_t>(types, 1)) {
      refuse("a token type in [0, " + std::to_string(std::max<int64_t>(types, 1)) + ")", std::to_string(type));
    }
  }
  rows.token_types.insert(rows.token_types.end(), segment.token_types.begin(), segment.token_types.end());
  rows.token_types.resize(rows.tokens.size(), 0);
}

}  // namespace

StepRows gather_rows(const Model& model, std::span<const Segment> segments, StepOutput& output) {
  const ModelConfig& config = model.config();
  const int64_t max_positions = model.max_positions();
  StepRows rows{.segments = segments};
  output.pending.resize(segments.size());
  for (size_t s = 0; s < segments.size(); ++s) {
    const Segment& segment = segments[s];
    const int64_t count = static_cast<int64_t>(segment.tokens.size());
    if (count == 0) refuse("at least one row in a segment", "none");
    if (!segment.parents.empty() && segment.parents.size() != segment.tokens.size()) {
      refuse(std::to_string(count) + " parents", std::to_string(segment.parents.size()));
    }
    check_tokens(segment, config.vocab_size);
    const int64_t first = static_cast<int64_t>(rows.tokens.size());
    const int64_t base = segment.state->length();
    rows.first_row.push_back(first);
    rows.tokens.insert(rows.tokens.end(), segment.tokens.begin(), segment.tokens.end());
    const int64_t deepest = append_tree(segment, rows);
    if (config.encoder_layers > 0 && !segment.state->source) refuse("a state that has read a source", "one without");
    if (config.bidirectional && (base > 0 || !rows.chain.back())) {
      refuse("a whole text for an encoder", base > 0 ? std::to_string(base) + " rows before it" : "a tree");
    }
    append_token_types(segment, config.token_types, rows);
    if (!rows.chain.back() && deepest > model.max_tree_depth(base)) {
      refuse("a tree of depth <= " + std::to_string(model.max_tree_depth(base)), std::to_string(deepest));
    }
    if (base + deepest >= max_positions) {
      refuse("positions below " + std::to_string(max_positions), std::to_string(base + deepest));
    }
    if (segment.logits == Logits::kFirst) rows.wanted.push_back(first);
    if (segment.logits == Logits::kLast) rows.wanted.push_back(first + count - 1);
    for (int64_t r = 0; segment.logits == Logits::kAll && r < count; ++r) rows.wanted.push_back(first + r);

    Pending& pending = output.pending[s];
    pending.base = base;
    pending.parents.assign(rows.parents.begin() + first, rows.parents.end());
    pending.k.resize(model.mechanisms().size());
    pending.v.resize(model.mechanisms().size());
    pending.extra.resize(model.mechanisms().size());
    pending.tails.resize(model.tails().size());
  }
  output.first_row = rows.first_row;
  output.rows.assign(rows.tokens.size(), nullptr);
  output.hidden_rows.assign(rows.tokens.size(), nullptr);
  return rows;
}

}  // namespace espalier
