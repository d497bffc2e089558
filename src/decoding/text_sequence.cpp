#include "decoding/text_sequence.h"

#include <algorithm>
#include <limits>
#include <string>

#include "core/error.h"

namespace espalier {
namespace {

// Positions that prompt and output may take together.
int64_t context_limit(const Model& model, int64_t max_context) {
  const int64_t positions = model.max_positions();
  return max_context > 0 ? std::min(max_context, positions) : positions;
}

void check(const GenerateOptions& options) {
  options.speculation.check();
  if (options.max_tokens < 0) {
    throw InvalidArgument(error_text("max-tokens", "0 or more", std::to_string(options.max_tokens)));
  }
  if (options.max_context < 0) {
    throw InvalidArgument(error_text("max-context", "0 (the model's) or more", std::to_string(options.max_context)));
  }
}

// Whether the output is the beginning of a text: nothing but special tokens stands before it.
bool begins_text(const Tokenizer* tokenizer, const GenerateRequest& request) {
  const auto special = [&](int32_t token) { return tokenizer->is_special(token); };
  return tokenizer && std::all_of(request.history.begin(), request.history.end(), special) &&
         std::all_of(request.prompt.begin(), request.prompt.end(), special);
}

}  // namespace

TextSequence::TextSequence(const Model& model, const Tokenizer* tokenizer, GenerateRequest request,
                           std::unique_ptr<Strategy> strategy)
    : model_(model),
      tokenizer_(tokenizer),
      request_(std::move(request)),
      strategy_(std::move(strategy)),
      sampler_(request_.options.sampler, model.kernels(), model.config().vocab_size, request_.sequence),
      text_(tokenizer, request_.options.stop, request_.on_text, begins_text(tokenizer, request_)) {
  check(request_.options);
  if (request_.prompt.empty()) throw InvalidArgument(error_text("prompt", "at least one token", "none"));
  result_.state = request_.state.empty() ? model.new_state() : std::move(request_.state);
  const int64_t past = result_.state.length();
  const int64_t length = past + static_cast<int64_t>(request_.prompt.size());
  const int64_t limit = context_limit(model, request_.options.max_context);
  if (length > limit) {
    throw InvalidArgument(error_text("prompt", "at most " + std::to_string(limit) + " tokens",
                                     std::to_string(length) + " tokens", "a shorter prompt or a linear attention"));
  }
  first_position_ = length;
  max_tokens_ = std::min(request_.options.max_tokens, limit - length);
  context_ = request_.history;
  context_.insert(context_.end(), request_.prompt.begin(), request_.prompt.end());
  for (const int32_t token : request_.source) strategy_->observe(token);
  for (const int32_t token : context_) strategy_->observe(token);
}

std::unique_ptr<TextSequence> TextSequence::fork(uint64_t sequence, std::unique_ptr<Strategy> strategy,
                                                 std::function<void(std::string_view text)> on_text) const {
  GenerateRequest request = request_;
  request.sequence = sequence;
  request.on_text = {};  // what is there was shown already
  auto fork = std::make_unique<TextSequence>(model_, tokenizer_, std::move(request), std::move(strategy));
  fork->result_.state = result_.state;
  fork->result_.tokens = result_.tokens;
  fork->result_.logprobs = result_.logprobs;
  fork->result_.finish_reason = result_.finish_reason;
  fork->context_ = context_;
  fork->first_position_ = first_position_;
  fork->max_tokens_ = max_tokens_;
  fork->fed_ = fed_;
  fork->finished_ = finished_;
  for (const int32_t token : result_.tokens) {
    fork->strategy_->observe(token);
    fork->text_.push(token);
  }
  if (finished_) fork->text_.finish();
  fork->text_.listen(std::move(on_text));
  return fork;
}

void TextSequence::plan(const StepLimits& limits, std::vector<Segment>& segments) {
  Segment segment{.state = &result_.state};
  if (!decoding()) {
    const size_t rows = std::min(static_cast<size_t>(limits.prompt_rows), request_.prompt.size() - fed_);
    if (rows == 0) return;
    segment.tokens = std::span(request_.prompt).subspan(fed_, rows);
    segment.wanted = fed_ + rows == request_.prompt.size() && max_tokens_ > 0 ? Wanted::kLast : Wanted::kNone;
    segments.push_back(segment);
    return;
  }
  // A node is of use as long as a token may follow it.
  const int64_t left = max_tokens_ - static_cast<int64_t>(result_.tokens.size());
  const int64_t depth = std::min(left - 1, model_.max_tree_depth(result_.state.length()));
  strategy_->plan(context_.back(), {.max_depth = depth, .batch = limits.sequences}, tree_);
  segment.tokens = tree_.tokens;
  segment.parents = tree_.parents;
  segments.push_back(segment);
}

void TextSequence::take(const StepOutput& output, size_t index) {
  last_decoding_ = decoding();
  last_decoding_ ? take_tree(output, index) : take_prompt(output, index);
}

void TextSequence::take_prompt(const StepOutput& output, size_t index) {
  const int64_t rows = output.pending[index].rows();
  model_.commit_chain(result_.state, output.pending[index], rows);
  fed_ += static_cast<size_t>(rows);
  if (!decoding()) return;
  if (max_tokens_ == 0) return finish(FinishReason::kLength);
  emit(output.logits(index, rows - 1));
  if (const float* hidden = output.hidden(index, rows - 1)) strategy_->see(hidden);
}

void TextSequence::take_tree(const StepOutput& output, size_t index) {
  std::vector<int32_t> path, chosen;
  int32_t node = 0;
  while (node >= 0) {
    path.push_back(node);
    chosen.push_back(emit(output.logits(index, node)));
    node = tree_.child(node, chosen.back());
    if (node >= 0) ++result_.stats.accepted;
    if (finished_) break;
  }
  if (const float* hidden = output.hidden(index, path.back())) strategy_->see(hidden);
  model_.commit(result_.state, output.pending[index], path);
  strategy_->learn(tree_, path, chosen);
  ++result_.stats.steps;
  result_.stats.step_tokens.push_back(static_cast<int32_t>(path.size()));
  result_.stats.drafted += tree_.size() - 1;
  if (tree_.size() > 1) ++result_.stats.steps_with_tree;
}

int32_t TextSequence::emit(const float* logits) {
  const GenerateOptions& options = request_.options;
  const int64_t vocab_size = model_.config().vocab_size;
  const int64_t position = first_position_ + static_cast<int64_t>(result_.tokens.size());
  const int32_t token = sampler_.sample(logits, context_, position);
  if (options.logprobs >= 0) {
    result_.logprobs.push_back({token_logprob(model_.kernels(), logits, vocab_size, token), {}});
    if (options.logprobs > 0) {
      result_.logprobs.back().top = top_logprobs(model_.kernels(), logits, vocab_size, options.logprobs);
    }
  }
  result_.tokens.push_back(token);
  context_.push_back(token);
  strategy_->observe(token);
  const bool ends =
      !options.ignore_eos && std::find(options.end_ids.begin(), options.end_ids.end(), token) != options.end_ids.end();
  if (text_.push(token) || ends) {
    finish(FinishReason::kStop);
  } else if (static_cast<int64_t>(result_.tokens.size()) >= max_tokens_) {
    finish(FinishReason::kLength);
  }
  return token;
}

void TextSequence::finish(FinishReason reason) {
  if (finished_) return;
  finished_ = true;
  result_.finish_reason = reason;
  text_.finish();
}

GenerateResult TextSequence::result() && {
  GenerateStats& stats = result_.stats;
  const double decoded = static_cast<double>(result_.tokens.empty() ? 0 : result_.tokens.size() - 1);
  if (stats.steps > 0) stats.tokens_per_step = decoded / static_cast<double>(stats.steps);
  if (stats.decode_ms > 0) stats.tokens_per_second = decoded / stats.decode_ms * 1e3;
  result_.text = text_.text();
  return std::move(result_);
}

}  // namespace espalier
