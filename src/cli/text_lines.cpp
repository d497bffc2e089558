#include "cli/text_lines.h"

#include <istream>
#include <nlohmann/json.hpp>

#include "cli/model_arguments.h"
#include "core/error.h"

namespace espalier {
namespace {

// The ids under `tokens`, or of the text under `text`.
std::vector<int32_t> read_text(const nlohmann::json& json, const char* text, const char* tokens,
                               const Tokenizer* tokenizer, const ModelConfig& config, const std::string& where) {
  if (json.is_object() && json.contains(tokens)) return token_ids(json[tokens], config.vocab_size, where);
  if (!json.is_object() || !json.contains(text) || !json[text].is_string()) {
    throw InvalidArgument(
        error_text(where, std::string("{\"") + text + "\": …} or {\"" + tokens + "\": […]}", "something else"));
  }
  if (!tokenizer) throw InvalidArgument(error_text(where, "token ids (the model has no tokenizer)", "a text"));
  const std::string content = json[text].get<std::string>();
  const Tokenizer::Part part{content, json.contains("special") && json["special"] == true};
  return tokenizer->encode({&part, 1}, true);
}

TextLine read_line(const std::string& text, const Tokenizer* tokenizer, const ModelConfig& config,
                   const std::string& where) {
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, false);
  TextLine line{.tokens = read_text(json, "text", "tokens", tokenizer, config, where),
                .token_types = {},
                .source = {},
                .where = where};
  if (config.encoder_layers > 0) {
    line.source = read_text(json, "source", "source_tokens", tokenizer, config, where);
    if (line.source.empty()) throw InvalidArgument(error_text(where, "a source of at least one token", "none"));
  } else if (json.contains("source") || json.contains("source_tokens")) {
    throw InvalidArgument(error_text(where, "no source (the model is no encoder-decoder)", "a source"));
  }
  if (json.contains("token_types")) {
    if (config.token_types == 0) {
      throw InvalidArgument(error_text(where, "no token_types (the model has none)", "token_types"));
    }
    line.token_types = token_ids(json["token_types"], config.token_types, where + ": token_types");
    if (line.token_types.size() != line.tokens.size()) {
      throw InvalidArgument(error_text(where,
                                       "a token type for each of " + std::to_string(line.tokens.size()) + " tokens",
                                       std::to_string(line.token_types.size())));
    }
  }
  return line;
}

// Refuses what would fail in the middle of a text.
void check_length(const Model& model, size_t tokens, const std::string& where) {
  const int64_t positions = model.max_positions();
  if (static_cast<int64_t>(tokens) > positions) {
    throw InvalidArgument(error_text(where, "at most " + std::to_string(positions) + " tokens", std::to_string(tokens),
                                     "a shorter text or a linear attention"));
  }
}

}  // namespace

std::vector<TextLine> read_text_lines(std::istream& input, const Tokenizer* tokenizer, const Model& model,
                                      const std::string& path) {
  std::vector<TextLine> lines;
  std::string text;
  for (int64_t number = 1; std::getline(input, text); ++number) {
    if (text.find_first_not_of(" \t\r") == std::string::npos) continue;
    const std::string where = path + ":" + std::to_string(number);
    lines.push_back(read_line(text, tokenizer, model.config(), where));
    check_length(model, lines.back().tokens.size(), where);
  }
  return lines;
}

}  // namespace espalier
