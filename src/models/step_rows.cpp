#include "models/step_rows.h"

#include <algorithm>
#include <string>

#include "core/error.h"
#include "models/state_access.h"

namespace espalier {
namespace {

[[noreturn]] void refuse(const std::string& expected, const std::string& got) {
  throw InvalidArgument(error_text("step", expected, got));
}

void check_tokens(const Segment& segment, int64_t vocab_size) {
  for (const int32_t token : segment.tokens) {
    if (token < 0 || token >= vocab_size) {
      refuse("a token in [0, " + std::to_string(vocab_size) + ")", std::to_string(token));
    }
  }
}

// Parents and depths of one segment of `count` rows, appended to `rows`; returns the greatest depth.
int64_t append_tree(const Segment& segment, int64_t count, StepRows& rows) {
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

// A segment's ids or vectors, appended to `rows`; returns how many.
int64_t append_inputs(const Segment& segment, const ModelConfig& config, StepRows& rows) {
  const auto width = static_cast<size_t>(config.hidden_size);
  const size_t count = segment.vectors.empty() ? segment.tokens.size() : segment.vectors.size() / width;
  if (!segment.vectors.empty() && (!segment.tokens.empty() || segment.vectors.size() % width != 0)) {
    refuse("ids, or vectors of " + std::to_string(width) + " numbers",
           segment.tokens.empty() ? std::to_string(segment.vectors.size()) + " numbers" : "both");
  }
  if (count == 0) refuse("at least one row in a segment", "none");
  check_tokens(segment, config.vocab_size);
  rows.tokens.insert(rows.tokens.end(), segment.tokens.begin(), segment.tokens.end());
  rows.tokens.resize(static_cast<size_t>(rows.first_row.back()) + count, 0);
  if (!segment.vectors.empty()) {
    rows.vectors.resize(rows.tokens.size(), nullptr);
    for (size_t r = 0; r < count; ++r) {
      rows.vectors[rows.tokens.size() - count + r] = segment.vectors.data() + r * width;
    }
  } else if (!rows.vectors.empty()) {
    rows.vectors.resize(rows.tokens.size(), nullptr);
  }
  rows.counts.push_back(static_cast<int64_t>(count));
  return static_cast<int64_t>(count);
}

// Whether a segment's rows see each other. Appended to `rows`, whose chain flag is there already.
void append_mask(const Model& model, const Segment& segment, StepRows& rows) {
  const ModelConfig& config = model.config();
  const bool span = segment.mask == Mask::kSpan || (segment.mask == Mask::kOwn && config.bidirectional);
  const int64_t base = segment.state->length();
  rows.span.push_back(span);
  if (config.bidirectional && (base > 0 || !rows.chain.back() || !span)) {
    refuse("a whole text for an encoder", base > 0 ? std::to_string(base) + " rows before it" : "a tree");
  }
  if (!span || config.bidirectional) return;
  if (!rows.chain.back()) refuse("rows of a span one after the other", "a tree");
  for (size_t l = 0; l < model.mechanisms().size(); ++l) {
    if (!model.mechanisms()[l]->capabilities().source) {
      throw NotSupported(error_text("layer " + std::to_string(l), "an attention that has spans after a state",
                                    config.attention[l], "softmax, or an additive one"));
    }
  }
}

void append_wanted(const Segment& segment, int64_t first, int64_t count, StepRows& rows) {
  const size_t before = rows.wanted.size();
  switch (segment.wanted) {
    case Wanted::kNone:
      break;
    case Wanted::kFirst:
      rows.wanted.push_back(first);
      break;
    case Wanted::kLast:
      rows.wanted.push_back(first + count - 1);
      break;
    case Wanted::kAll:
      for (int64_t r = 0; r < count; ++r) rows.wanted.push_back(first + r);
      break;
    case Wanted::kListed:
      for (const int32_t r : segment.listed) {
        const bool ascends = rows.wanted.size() == before || rows.wanted.back() < first + r;
        if (r < 0 || r >= count || !ascends) {
          refuse("wanted rows below " + std::to_string(count) + " in ascending order", std::to_string(r));
        }
        rows.wanted.push_back(first + r);
      }
  }
  rows.wanted_outputs.resize(rows.wanted.size(), segment.outputs);
}

void append_token_types(const Segment& segment, int64_t types, StepRows& rows) {
  if (!segment.token_types.empty() && static_cast<int64_t>(segment.token_types.size()) != rows.counts.back()) {
    refuse(std::to_string(rows.counts.back()) + " token types", std::to_string(segment.token_types.size()));
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
    const int64_t first = static_cast<int64_t>(rows.tokens.size());
    const int64_t base = segment.state->length();
    rows.first_row.push_back(first);
    const int64_t count = append_inputs(segment, config, rows);
    if (!segment.parents.empty() && static_cast<int64_t>(segment.parents.size()) != count) {
      refuse(std::to_string(count) + " parents", std::to_string(segment.parents.size()));
    }
    const int64_t deepest = append_tree(segment, count, rows);
    if (config.encoder_layers > 0 && !StateAccess::source(*segment.state)) {
      refuse("a state that has read a source", "one without");
    }
    append_mask(model, segment, rows);
    append_token_types(segment, config.token_types, rows);
    if (!rows.chain.back() && deepest > model.max_tree_depth(base)) {
      refuse("a tree of depth <= " + std::to_string(model.max_tree_depth(base)), std::to_string(deepest));
    }
    if (base + deepest >= max_positions) {
      refuse("positions below " + std::to_string(max_positions), std::to_string(base + deepest));
    }
    append_wanted(segment, first, count, rows);
    StateAccess::start(output.pending[s], base, rows.span.back() != 0,
                       {rows.parents.begin() + first, rows.parents.end()}, model.mechanisms().size(),
                       model.tails().size());
  }
  output.start(rows.first_row, static_cast<int64_t>(rows.tokens.size()));
  return rows;
}

}  // namespace espalier
