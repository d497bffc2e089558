// How a conversation becomes one prompt: a table of known formats. A checkpoint's template text is
// compared with the table (by what it contains), never executed.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizers/tokenizer.h"

namespace espalier {

struct ChatMessage {
  std::string role;  // "system", "user", "assistant"
  std::string content;
};

struct ChatFormat {
  std::string name;            // "chatml", "llama3", "llama2", "zephyr", …
  std::string default_system;  // used when the conversation starts without a system message; may be empty
};

// The names that --chat-format takes.
std::vector<std::string> chat_format_names();
// By name; throws InvalidArgument listing the names.
ChatFormat chat_format_by_name(std::string_view name);
// By a checkpoint's template text; throws NotSupported (an unknown template is refused, with the advice to
// name one with --chat-format).
ChatFormat chat_format_of_template(std::string_view chat_template);
// By name, or for an empty one by the template.
ChatFormat chat_format_for(std::string_view name, std::string_view chat_template);
// The prompt text up to and including the assistant's header; tokenize it with parse_special, add_special as
// the format wants (bos is part of the text where the format has one). Special-token texts inside a message's
// content must not become special tokens: pieces alternate between trusted and untrusted text.
struct PromptPiece {
  std::string text;
  bool trusted;  // parse special tokens in this piece
};
std::vector<PromptPiece> render_chat(const ChatFormat& format, std::span<const ChatMessage> messages);
// The ids of a rendered conversation: special tokens only where the format itself wrote them.
std::vector<int32_t> encode_pieces(const Tokenizer& tokenizer, std::span<const PromptPiece> pieces);
// The ids of a user's message up to the assistant's header: the first of a conversation, which `system` opens unless it
// is empty, or one that follows the conversation `past`.
std::vector<int32_t> message_tokens(const Tokenizer& tokenizer, const ChatFormat& format, const std::string& system,
                                    const std::string& message, std::span<const int32_t> past);

}  // namespace espalier
