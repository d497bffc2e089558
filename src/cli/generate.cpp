#include <algorithm>
#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>

#include "cli/decoding_arguments.h"
#include "cli/model_arguments.h"
#include "core/error.h"
#include "core/file.h"
#include "core/utf8.h"
#include "decoding/beam_search.h"
#include "decoding/state_file.h"
#include "models/memory_plan.h"
#include "program/interrupt.h"

namespace espalier {
namespace {

struct Arguments {
  ModelArguments model;
  DecodingArguments decoding;
  std::string prompt, prompt_file, state_in, state_out;
  bool prompt_given = false, chat = false, special = false, json = false;
  int64_t beams = 1;
  double length_penalty = 1.0;
};

std::string prompt_text(const Arguments& a) {
  if (a.prompt_given) return a.prompt;
  if (!a.prompt_file.empty()) return read_input(a.prompt_file);
  std::string text = read_input("-");
  if (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

std::vector<int32_t> prompt_tokens(const Arguments& a, const ModelFiles& files, const Tokenizer& tokenizer,
                                   const SavedState& past) {
  const std::string text = prompt_text(a);
  if (!a.chat) {
    const Tokenizer::Part part{text, a.special};
    return tokenizer.encode({&part, 1}, past.tokens.empty());
  }
  return a.decoding.message_tokens(tokenizer, a.decoding.format(files), text, past.tokens);
}

// A text about a source.
GenerateRequest request_about(const Model& model, const std::vector<int32_t>& source, Workspace& workspace) {
  if (source.empty()) throw InvalidArgument(error_text("prompt", "at least one token", "none"));
  GenerateRequest request;
  request.state = model.read_source(source, workspace);
  request.source = source;
  request.prompt = {model.config().decoder_start};
  return request;
}

void warn_of_positions(const Arguments& a, const Model& model, const GenerateRequest& request) {
  const int64_t positions = model.config().max_position_embeddings;
  const int64_t end = static_cast<int64_t>(request.history.size() + request.prompt.size()) + request.options.max_tokens;
  if (is_constant_state(model.mechanisms()) && end > positions) {
    a.model.log().warning("positions up to " + std::to_string(end) + " are beyond the " + std::to_string(positions) +
                          " that the model was trained for");
  }
}

nlohmann::json json_of(const GenerateResult& result, const std::vector<int32_t>& prompt, int64_t logprobs) {
  const GenerateStats& stats = result.stats;
  nlohmann::json json = {{"text", result.text},
                         {"tokens", result.tokens},
                         {"prompt_tokens", prompt},
                         {"finish_reason", finish_reason_name(result.finish_reason)},
                         {"stats",
                          {{"prefill_ms", stats.prefill_ms},
                           {"decode_ms", stats.decode_ms},
                           {"steps", stats.steps},
                           {"steps_with_tree", stats.steps_with_tree},
                           {"drafted", stats.drafted},
                           {"accepted", stats.accepted},
                           {"tokens_per_step", stats.tokens_per_step},
                           {"tokens_per_second", stats.tokens_per_second},
                           {"state_bytes", result.state.bytes()}}}};
  if (logprobs < 0) return json;
  json["logprobs"] = nlohmann::json::array();
  for (const GeneratedLogprob& token : result.logprobs) {
    json["logprobs"].push_back(token.logprob);
    if (logprobs == 0) continue;
    nlohmann::json top = nlohmann::json::array();
    for (const TokenLogprob& other : token.top) top.push_back({{"token", other.token}, {"logprob", other.logprob}});
    json["top_logprobs"].push_back(std::move(top));
  }
  return json;
}

void print(const Arguments& a, const GenerateResult& result, const std::vector<int32_t>& prompt) {
  if (a.json) {
    const nlohmann::json json = json_of(result, prompt, a.decoding.options.logprobs);
    std::cout << json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << std::endl;
    return;
  }
  std::cout << std::endl;
  a.model.log().info(statistics_text(result, prompt.size()));
}

int run_beams(const Arguments& a, const Model& model, const Tokenizer& tokenizer, const GenerateRequest& request,
              const std::vector<int32_t>& prompt, Workspace& workspace) {
  install_interrupt();
  const std::vector<Beam> beams =
      beam_search(model, request, {.beams = a.beams, .length_penalty = a.length_penalty}, workspace, &interrupted());
  const Beam best = beams.empty() ? Beam{} : beams.front();
  const std::string text = utf8_repaired(tokenizer.decode(best.tokens));
  if (a.json) {
    nlohmann::json json = {{"text", text},
                           {"tokens", best.tokens},
                           {"prompt_tokens", prompt},
                           {"finish_reason", finish_reason_name(best.finish_reason)},
                           {"score", best.score}};
    std::cout << json.dump() << std::endl;
  } else {
    std::cout << text << std::endl;
  }
  return best.finish_reason == FinishReason::kCancelled ? kExitInterrupted : kExitOk;
}

int run(const Arguments& a) {
  const ModelFiles files = a.model.open();
  const bool encoder_decoder = files.config.encoder_layers > 0;
  if (encoder_decoder && (a.chat || !a.state_in.empty() || !a.state_out.empty())) {
    throw UsageError(
        error_text(a.model.model, "no --chat, --state-in, --state-out with an encoder-decoder", "one of them"));
  }
  if (a.beams > 1 && (a.decoding.options.sampler.temperature > 0 || a.decoding.options.sampler.repeat_penalty != 1.0 ||
                      !a.state_out.empty() || a.decoding.options.logprobs >= 0 || !a.decoding.options.stop.empty())) {
    throw UsageError(error_text(
        "--beams", "no --temperature, --repeat-penalty, --stop, --logprobs, --state-out beside it", "one of them"));
  }
  const auto tokenizer = required_tokenizer(files);
  StateBinding binding;
  if (!a.state_in.empty() || !a.state_out.empty()) {
    binding = state_binding(files, a.model.adapter, a.model.weights);
  }
  std::optional<MappedFile> saved;  // opened before the model is loaded: a wrong name fails at once
  if (!a.state_in.empty()) saved.emplace(a.state_in);
  const auto model = a.model.load(files, a.decoding.options.max_context);
  SavedState past;
  if (saved) past = parse_state(saved->text(), binding, *model, a.state_in);
  Workspace workspace(a.model.thread_count());
  const std::vector<int32_t> prompt = prompt_tokens(a, files, *tokenizer, past);
  GenerateRequest request =
      encoder_decoder ? request_about(*model, prompt, workspace) : request_after(std::move(past), prompt);
  request.options = a.decoding.complete(files);
  if (a.beams > 1)
    return run_beams(a, *model, *tokenizer, request, encoder_decoder ? prompt : request.prompt, workspace);
  if (!a.json) {
    request.on_text = [](std::string_view text) { std::cout << text << std::flush; };
  }
  warn_of_positions(a, *model, request);

  const LoadedDrafts drafts = a.decoding.drafts(a.model, files, *tokenizer, *model);
  Generator generator(*model, tokenizer.get(), workspace, drafts.sources());
  const StepTimesOfUser step_times(generator, *model, a.model);
  install_interrupt();
  const GenerateResult result = generator.generate(request, &interrupted());
  print(a, result, encoder_decoder ? prompt : request.prompt);
  if (!a.state_out.empty()) write_state_file(a.state_out, state_after(request, result), binding);
  return result.finish_reason == FinishReason::kCancelled ? kExitInterrupted : kExitOk;
}

Action add(CLI::App& app) {
  const auto a = std::make_shared<Arguments>();
  app.footer(
      "Writes on from a prompt. Without --prompt or --prompt-file the prompt is standard input (less one line break at "
      "its end).\n"
      "For an encoder-decoder (T5) the prompt is the source that the text is made from.\n"
      "The text goes to stdout as it is made, statistics to stderr. Ctrl-C ends cleanly: statistics, --state-out, exit "
      "code 130.\n\n"
      "  espalier generate MODEL --chat --prompt 'Why is the sky blue?' --max-tokens 200\n"
      "  espalier generate MODEL --prompt-file story.txt --temperature 0.8 --top-p 0.95 --seed 7\n"
      "  espalier generate MODEL --prompt 'Once' --state-out s.state && "
      "espalier generate MODEL --prompt ' more' --state-in s.state");
  a->model.encoder_decoders = true;
  a->model.add_to(app);
  auto* prompt = app.add_option("--prompt", a->prompt, "The prompt");
  app.add_option("--prompt-file", a->prompt_file, "A file with the prompt; - is stdin")->excludes(prompt);
  app.add_flag("--chat", a->chat, "The prompt is a user's message, put into the model's chat format");
  app.add_flag("--special", a->special, "Names of special tokens in the prompt (<extra_id_0>) are those tokens");
  a->decoding.add_to(app);
  app.add_option("--beams", a->beams, "Beam search with so many beams; 1: none. No speculation")
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
  app.add_option("--length-penalty", a->length_penalty, "Beams are scored by log-probability / length^this")
      ->check(number_in(-10, 10))
      ->capture_default_str();
  app.add_option("--logprobs", a->decoding.options.logprobs,
                 "With --json: each token's log-probability, and the N likeliest beside")
      ->check(CLI::Range(0, 1000));
  app.add_option("--state-in", a->state_in, "Go on from a saved state");
  app.add_option("--state-out", a->state_out, "Save the state at the end");
  app.add_flag("--json", a->json, "One JSON object: text, tokens, prompt_tokens, finish_reason, stats");
  return [a, prompt] {
    a->prompt_given = prompt->count() > 0;
    return run(*a);
  };
}

}  // namespace

Verb generate_verb() {
  return {"generate", "Write on from a prompt", add};
}

}  // namespace espalier
