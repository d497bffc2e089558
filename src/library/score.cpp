#include "espalier/score.h"

#include <numeric>

#include "core/error.h"
#include "evaluation/scoring.h"
#include "library/inside.h"

namespace espalier {

Score score(Session& session, std::string_view text) {
  const LanguageModel::Inside& model = session.model().inside();
  const ModelConfig& config = model.model->config();
  if (config.bidirectional || config.encoder_layers > 0) {
    throw NotSupported(error_text("score", "a decoder", config.family));
  }
  Score score{.tokens = model.required_tokenizer().encode(text)};
  if (score.tokens.empty()) throw InvalidArgument(error_text("score", "at least one token", "none"));
  score.logprobs = score_text(*model.model, {.tokens = score.tokens}, session.inside().workspace, nullptr).logprobs;
  score.total = std::accumulate(score.logprobs.begin(), score.logprobs.end(), 0.0);
  return score;
}

}  // namespace espalier
