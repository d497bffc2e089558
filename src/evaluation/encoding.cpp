#include "evaluation/encoding.h"

#include <algorithm>
#include <cmath>

namespace espalier {
namespace {

void scale_to_length_1(std::vector<float>& x) {
  double squares = 0;
  for (const float value : x) squares += double{value} * value;
  const double factor = 1.0 / std::max(std::sqrt(squares), 1e-12);
  for (float& value : x) value = static_cast<float>(value * factor);
}

Output output_for(Pool pool) {
  return pool == Pool::kPooler ? Output::kPooled : Output::kHidden;
}

EncodedText pooled(const StepOutput& output, size_t segment, int64_t rows, Pool pool) {
  const Output what = output_for(pool);
  const int64_t width = output.width(what);
  EncodedText encoded{.rows = pool == Pool::kNone ? rows : 1, .width = width};
  if (pool == Pool::kMean) {
    std::vector<double> sum(static_cast<size_t>(width), 0.0);
    for (int64_t r = 0; r < rows; ++r) {
      const float* row = output.row(what, segment, r);
      for (int64_t c = 0; c < width; ++c) sum[static_cast<size_t>(c)] += row[c];
    }
    for (const double value : sum) encoded.values.push_back(static_cast<float>(value / static_cast<double>(rows)));
    return encoded;
  }
  for (int64_t r = 0; r < encoded.rows; ++r) {
    const float* row = output.row(what, segment, r);
    encoded.values.insert(encoded.values.end(), row, row + width);
  }
  return encoded;
}

}  // namespace

std::vector<EncodedText> encode_texts(const Model& model, std::span<const TextToEncode> texts, Pool pool,
                                      bool normalize, Workspace& workspace, StepOutput& output) {
  const SequenceState empty = model.new_state();
  std::vector<Segment> segments;
  const bool whole = pool == Pool::kNone || pool == Pool::kMean;
  for (const TextToEncode& text : texts) {
    segments.push_back({.state = &empty,
                        .tokens = text.tokens,
                        .wanted = whole ? Wanted::kAll : Wanted::kFirst,
                        .outputs = output_for(pool),
                        .token_types = text.token_types});
  }
  model.step(segments, workspace, output);
  std::vector<EncodedText> all;
  for (size_t s = 0; s < texts.size(); ++s) {
    all.push_back(pooled(output, s, static_cast<int64_t>(texts[s].tokens.size()), pool));
    if (normalize && pool != Pool::kNone) scale_to_length_1(all.back().values);
  }
  return all;
}

}  // namespace espalier
