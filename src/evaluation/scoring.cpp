#include "evaluation/scoring.h"

#include "decoding/logprob.h"

namespace espalier {
namespace {

TextScores score_with_decoder(const Model& model, const TextToScore& text, Workspace& workspace,
                              std::vector<float>* logits) {
  TextScores scores;
  const int64_t vocab_size = model.config().vocab_size;
  SequenceState state = model.new_state();
  const auto each_row = [&](int64_t index, const float* row) {
    scores.likeliest.push_back(argmax(row, vocab_size));
    const auto next = static_cast<size_t>(index) + 1;
    if (next < text.tokens.size()) {
      scores.logprobs.push_back(token_logprob(model.kernels(), row, vocab_size, text.tokens[next]));
    }
    if (logits) logits->insert(logits->end(), row, row + vocab_size);
  };
  model.prefill(state, text.tokens, workspace, each_row, nullptr);
  return scores;
}

TextScores score_with_encoder_decoder(const Model& model, const TextToScore& text, Workspace& workspace,
                                      std::vector<float>* logits) {
  TextScores scores{.first_has_logprob = true};
  const int64_t vocab_size = model.config().vocab_size;
  SequenceState state = model.read_source(text.source, workspace);
  if (text.tokens.empty()) return scores;
  std::vector<int32_t> shifted = {model.config().decoder_start};
  shifted.insert(shifted.end(), text.tokens.begin(), text.tokens.end() - 1);
  const auto each_row = [&](int64_t index, const float* row) {
    const int32_t token = text.tokens[static_cast<size_t>(index)];
    scores.logprobs.push_back(token_logprob(model.kernels(), row, vocab_size, token));
    scores.likeliest.push_back(argmax(row, vocab_size));
    if (logits) logits->insert(logits->end(), row, row + vocab_size);
  };
  model.prefill(state, shifted, workspace, each_row, nullptr);
  return scores;
}

TextScores score_with_encoder(const Model& model, const TextToScore& text, Workspace& workspace,
                              std::vector<float>* logits) {
  TextScores scores{.first_has_logprob = true};
  if (text.tokens.empty()) return scores;
  const SequenceState empty = model.new_state();
  Segment segment{.state = &empty, .tokens = text.tokens, .token_types = text.token_types};
  StepOutput output;
  if (model.gives(Output::kLogits)) {
    model.step({&segment, 1}, workspace, output);
    const int64_t vocab_size = output.width(Output::kLogits);
    for (size_t r = 0; r < text.tokens.size(); ++r) {
      const float* row = output.logits(0, static_cast<int64_t>(r));
      scores.logprobs.push_back(token_logprob(model.kernels(), row, vocab_size, text.tokens[r]));
      scores.likeliest.push_back(argmax(row, vocab_size));
      if (logits) logits->insert(logits->end(), row, row + vocab_size);
    }
  }
  if (model.gives(Output::kLabels)) {
    segment.wanted = Wanted::kFirst;
    segment.outputs = Output::kLabels;
    model.step({&segment, 1}, workspace, output);
    const float* labels = output.row(Output::kLabels, 0, 0);
    scores.labels.assign(labels, labels + output.width(Output::kLabels));
  }
  return scores;
}

}  // namespace

TextScores score_text(const Model& model, const TextToScore& text, Workspace& workspace, std::vector<float>* logits) {
  const auto score = model.config().bidirectional        ? score_with_encoder
                     : model.config().encoder_layers > 0 ? score_with_encoder_decoder
                                                         : score_with_decoder;
  return score(model, text, workspace, logits);
}

}  // namespace espalier
