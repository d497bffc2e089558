#include "espalier/generate.h"

#include <atomic>

#include "core/error.h"
#include "decoding/text_sequence.h"
#include "library/inside.h"
#include "tokenizers/chat_format.h"

namespace espalier {
namespace {

GenerateOptions options_of(const GenerateSettings& settings, const ModelFiles& files) {
  GenerateOptions options;
  options.max_tokens = settings.max_tokens;
  options.sampler = {.temperature = settings.temperature,
                     .top_k = settings.top_k,
                     .top_p = settings.top_p,
                     .min_p = settings.min_p,
                     .repeat_penalty = settings.repeat_penalty,
                     .seed = settings.seed};
  options.stop = settings.stop;
  options.end_ids = files.tokenizer.end_ids;
  options.ignore_eos = settings.ignore_eos;
  options.speculation.mode = settings.speculate ? SpeculationMode::kAuto : SpeculationMode::kOff;
  return options;
}

const LanguageModel::Inside& decoder_of(Session& session) {
  const LanguageModel::Inside& model = session.model().inside();
  const ModelConfig& config = model.model->config();
  if (config.bidirectional || config.encoder_layers > 0) {
    throw NotSupported(error_text("generate", "a decoder", config.family));
  }
  return model;
}

Generated go_on(Session& session, State& state, const std::vector<int32_t>& tokens, const GenerateSettings& settings) {
  const LanguageModel::Inside& model = decoder_of(session);
  SavedState& saved = state.inside().saved;
  GenerateRequest request = request_after(saved, tokens);
  request.options = options_of(settings, model.files);
  request.on_text = settings.on_text;
  const GenerateResult result = session.inside().generator.generate(request, settings.cancelled);
  saved = state_after(request, result);
  return {.text = result.text,
          .tokens = result.tokens,
          .finish_reason = std::string(finish_reason_name(result.finish_reason)),
          .prompt_tokens = static_cast<int64_t>(request.prompt.size()),
          .tokens_per_step = result.stats.tokens_per_step,
          .tokens_per_second = result.stats.tokens_per_second};
}

}  // namespace

Generated generate(Session& session, State& state, std::string_view prompt, const GenerateSettings& settings) {
  const Tokenizer& tokenizer = decoder_of(session).required_tokenizer();
  const Tokenizer::Part part{prompt};
  return go_on(session, state, tokenizer.encode({&part, 1}, state.length() == 0), settings);
}

Generated generate(Session& session, std::string_view prompt, const GenerateSettings& settings) {
  State state;
  return generate(session, state, prompt, settings);
}

Generated reply(Session& session, State& state, std::string_view message, const GenerateSettings& settings) {
  const LanguageModel::Inside& model = decoder_of(session);
  const Tokenizer& tokenizer = model.required_tokenizer();
  const ChatFormat format = chat_format_for("", model.files.tokenizer.chat_template);
  return go_on(session, state, message_tokens(tokenizer, format, "", std::string(message), state.inside().saved.tokens),
               settings);
}

}  // namespace espalier
