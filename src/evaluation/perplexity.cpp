#include "evaluation/perplexity.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "core/error.h"
#include "decoding/logprob.h"

namespace espalier {
namespace {

double perplexity_of(double loss, int64_t n) {
  return n > 0 ? std::exp(loss / static_cast<double>(n)) : std::numeric_limits<double>::quiet_NaN();
}

std::vector<LossRange> make_ranges(int64_t end, int64_t width) {
  std::vector<LossRange> ranges;
  for (int64_t begin = 0; begin < end; begin += width) ranges.push_back({begin, std::min(begin + width, end)});
  return ranges;
}

void count(std::vector<LossRange>& ranges, int64_t place, double loss) {
  if (ranges.empty()) return;
  LossRange& range = ranges[static_cast<size_t>(place / (ranges[0].end - ranges[0].begin))];
  range.loss += loss;
  ++range.n;
}

}  // namespace

double LossRange::perplexity() const {
  return perplexity_of(loss, n);
}

double PerplexityResult::perplexity() const {
  return perplexity_of(loss, n);
}

int64_t attention_group(const Model& model) {
  for (const auto& mechanism : model.mechanisms()) {
    if (mechanism->layout().block > 0) return mechanism->layout().block;
  }
  return 0;
}

PerplexityResult perplexity(const Model& model, std::span<const int32_t> tokens, const PerplexityOptions& options,
                            Workspace& workspace, const EvaluationProgress& progress) {
  if (options.bucket < 1) throw InvalidArgument(error_text("bucket", "1 or more", std::to_string(options.bucket)));
  std::vector<Window> windows = cut_windows(static_cast<int64_t>(tokens.size()), options.windows);
  if (windows.empty()) throw InvalidArgument(error_text("text", "two tokens or more", std::to_string(tokens.size())));
  if (options.max_windows > 0) windows.resize(std::min(windows.size(), static_cast<size_t>(options.max_windows)));

  PerplexityResult result;
  result.by_position = make_ranges(options.windows.context, options.bucket);
  result.by_offset = make_ranges(options.group, std::max<int64_t>(1, options.group / 8));
  const int64_t vocab_size = model.config().vocab_size;
  for (const Window& window : windows) {
    SequenceState state = model.new_state();
    const auto piece =
        tokens.subspan(static_cast<size_t>(window.begin), static_cast<size_t>(window.end - window.begin));
    const auto each_row = [&](int64_t index, const float* logits) {
      const int64_t position = index + 1;  // of the predicted token in the window
      if (window.begin + position < window.first_target || window.begin + position >= window.end) return;
      const int32_t token = piece[static_cast<size_t>(position)];
      const double loss = -static_cast<double>(token_logprob(model.kernels(), logits, vocab_size, token));
      result.loss += loss;
      ++result.n;
      count(result.by_position, position, loss);
      if (options.group > 0) count(result.by_offset, position % options.group, loss);
    };
    model.prefill(state, piece, workspace, each_row, nullptr);
    if (progress) progress(window.end, windows.back().end);
  }
  return result;
}

}  // namespace espalier
