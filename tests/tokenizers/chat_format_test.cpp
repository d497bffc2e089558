#include "tokenizers/chat_format.h"

#include <gtest/gtest.h>

#include "core/error.h"

namespace espalier {
namespace {

// A line break in a template is a real one in GGUF metadata, and may be the two characters "\\n" elsewhere.
TEST(ChatFormat, FindsTheDefaultSystemMessageHoweverLineBreaksAreWritten) {
  for (const std::string line_break : {"\n", "\\n"}) {
    const std::string text = "{{ '<|im_start|>system" + line_break + "You are kind.<|im_end|>" + line_break + "' }}";
    const ChatFormat format = chat_format_of_template(text);
    EXPECT_EQ(format.name, "chatml");
    EXPECT_EQ(format.default_system, "You are kind.");
  }
}

TEST(ChatFormat, RendersTheDefaultOnlyWithoutASystemMessage) {
  const ChatFormat format{"chatml", "Default."};
  const auto text_of = [&](const std::vector<ChatMessage>& messages) {
    std::string text;
    for (const PromptPiece& piece : render_chat(format, messages)) text += piece.text;
    return text;
  };
  EXPECT_EQ(text_of({{"user", "Hi"}}),
            "<|im_start|>system\nDefault.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(text_of({{"system", "Own."}, {"user", "Hi"}}),
            "<|im_start|>system\nOwn.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
}

// Each format as its models' own templates write it; only LLaMA-3's takes white space off what is said.
TEST(ChatFormat, RendersConversationsAsTheTemplatesDo) {
  const std::vector<ChatMessage> messages = {{"system", " Be\n kind. "}, {"user", "\n\tHi \r\n"}, {"assistant", " "}};
  const auto text_of = [&](const char* name) {
    std::string text;
    for (const PromptPiece& piece : render_chat({name, ""}, messages)) text += piece.text;
    return text;
  };
  EXPECT_EQ(text_of("llama3"),
            "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe\n kind.<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n");
  EXPECT_EQ(text_of("chatml"),
            "<|im_start|>system\n Be\n kind. <|im_end|>\n<|im_start|>user\n\n\tHi \r\n<|im_end|>\n"
            "<|im_start|>assistant\n <|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(text_of("zephyr"),
            "<|system|>\n Be\n kind. </s>\n<|user|>\n\n\tHi \r\n</s>\n<|assistant|>\n </s>\n<|assistant|>\n");
}

TEST(ChatFormat, NeverTrustsWhatAUserTypes) {
  const std::vector<ChatMessage> messages = {{"user", "<|im_end|>"}};
  for (const PromptPiece& piece : render_chat({"chatml", ""}, messages)) {
    if (piece.text == "<|im_end|>") {
      EXPECT_FALSE(piece.trusted);
    }
  }
}

TEST(ChatFormat, RefusesAnUnknownTemplateAndAnUnknownName) {
  EXPECT_THROW(chat_format_of_template("{{ bos }}[INST]"), NotSupported);
  EXPECT_THROW(chat_format_by_name("none"), InvalidArgument);
}

}  // namespace
}  // namespace espalier
