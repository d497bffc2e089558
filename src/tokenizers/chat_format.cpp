#include "tokenizers/chat_format.h"

#include <algorithm>

#include "core/error.h"

namespace espalier {
namespace {

struct Format {
  const char* name;
  const char* mark;          // a template with this text is of this format
  const char* begin;         // before everything
  const char* header_begin;  // role
  const char* header_end;    // content
  const char* message_end;
  bool trims;  // content without white space around it
};

constexpr Format kFormats[] = {
    {"chatml", "<|im_start|>", "", "<|im_start|>", "\n", "<|im_end|>\n", false},
    {"llama3", "<|start_header_id|>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>\n\n", "<|eot_id|>",
     true},
    {"zephyr", "<|assistant|>", "", "<|", "|>\n", "</s>\n", false},
};

const Format& format_named(std::string_view name) {
  std::string known;
  for (const Format& format : kFormats) {
    if (name == format.name) return format;
    known += (known.empty() ? "" : ", ") + std::string(format.name);
  }
  throw InvalidArgument(error_text("--chat-format", "one of " + known, "'" + std::string(name) + "'"));
}

std::string trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return "";
  return std::string(text.substr(begin, text.find_last_not_of(kSpace) + 1 - begin));
}

// A default system message stands in the template as a literal between the format's own marks. The line break after
// the role is a real one or the two characters "\\n", as the file's writer escaped it.
std::string default_system_of(const Format& format, std::string_view chat_template) {
  std::string header = std::string(format.header_begin) + "system\n";
  size_t begin = chat_template.find(header);
  if (begin == std::string_view::npos) {
    header = std::string(format.header_begin) + "system\\n";
    begin = chat_template.find(header);
  }
  if (begin == std::string_view::npos) return "";
  const std::string_view rest = chat_template.substr(begin + header.size());
  const std::string_view end_mark =
      std::string_view(format.message_end).substr(0, std::string_view(format.message_end).find('\n'));
  const size_t end = rest.find(end_mark);
  const std::string_view text = rest.substr(0, end);
  if (end == std::string_view::npos || text.find_first_of("{}'\\") != std::string_view::npos) return "";
  return std::string(text);
}

}  // namespace

std::vector<std::string> chat_format_names() {
  std::vector<std::string> names;
  for (const Format& format : kFormats) names.emplace_back(format.name);
  return names;
}

ChatFormat chat_format_by_name(std::string_view name) {
  return {format_named(name).name, ""};
}

ChatFormat chat_format_of_template(std::string_view chat_template) {
  for (const Format& format : kFormats) {
    if (chat_template.find(format.mark) == std::string_view::npos) continue;
    return {format.name, default_system_of(format, chat_template)};
  }
  throw NotSupported(error_text("chat template", "a known one", chat_template.empty() ? "none" : "an unknown one",
                                "--chat-format chatml (or llama3, zephyr)"));
}

std::vector<PromptPiece> render_chat(const ChatFormat& chat, std::span<const ChatMessage> messages) {
  const Format& format = format_named(chat.name);
  std::vector<PromptPiece> pieces{{format.begin, true}};
  const auto message = [&](const std::string& role, const std::string& content) {
    pieces.push_back({format.header_begin + role + format.header_end, true});
    pieces.push_back({format.trims ? trimmed(content) : content, false});
    pieces.push_back({format.message_end, true});
  };
  if (!chat.default_system.empty() && (messages.empty() || messages[0].role != "system")) {
    message("system", chat.default_system);
  }
  for (const ChatMessage& turn : messages) {
    if (turn.role != "system" && turn.role != "user" && turn.role != "assistant") {
      throw InvalidArgument(error_text("chat", "role system, user or assistant", "'" + turn.role + "'"));
    }
    message(turn.role, turn.content);
  }
  pieces.push_back({std::string(format.header_begin) + "assistant" + format.header_end, true});
  return pieces;
}

ChatFormat chat_format_for(std::string_view name, std::string_view chat_template) {
  return name.empty() ? chat_format_of_template(chat_template) : chat_format_by_name(name);
}

std::vector<int32_t> encode_pieces(const Tokenizer& tokenizer, std::span<const PromptPiece> pieces) {
  std::vector<Tokenizer::Part> parts;
  for (const PromptPiece& piece : pieces) parts.push_back({piece.text, piece.trusted});
  return tokenizer.encode(parts, false);
}

namespace {

// What comes after a reply whose last token is `last`: its end, the user's message, the assistant's header.
std::vector<int32_t> follow_up_tokens(const Tokenizer& tokenizer, ChatFormat format, const std::string& message,
                                      int32_t last) {
  format.default_system.clear();
  const std::vector<ChatMessage> messages = {{"assistant", ""}, {"user", message}};
  const std::vector<PromptPiece> pieces = render_chat(format, messages);
  const auto reply =
      std::find_if(pieces.begin(), pieces.end(), [](const PromptPiece& piece) { return !piece.trusted; });
  ESPALIER_CHECK(reply != pieces.end());
  std::vector<int32_t> tokens = encode_pieces(tokenizer, {reply + 1, pieces.end()});
  // A reply that ended by itself has its end token already.
  if (!tokens.empty() && tokens.front() == last) tokens.erase(tokens.begin());
  return tokens;
}

}  // namespace

std::vector<int32_t> message_tokens(const Tokenizer& tokenizer, const ChatFormat& format, const std::string& system,
                                    const std::string& message, std::span<const int32_t> past) {
  if (!past.empty()) return follow_up_tokens(tokenizer, format, message, past.back());
  std::vector<ChatMessage> messages;
  if (!system.empty()) messages.push_back({"system", system});
  messages.push_back({"user", message});
  return encode_pieces(tokenizer, render_chat(format, messages));
}

}  // namespace espalier
