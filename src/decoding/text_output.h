// The text of one output as it grows, its stop strings, and what of it may be shown already.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizers/tokenizer.h"

namespace espalier {

class TextOutput {
 public:
  using Callback = std::function<void(std::string_view)>;

  // `at_start`: the output begins a text, and does not go on with a prompt's. `tokenizer` may be null when there are no
  // stops: the text stays empty. Throws InvalidArgument for an empty stop string, or one without a tokenizer.
  TextOutput(const Tokenizer* tokenizer, std::vector<std::string> stops, Callback on_text, bool at_start = false);

  // Takes a token; true when a stop string is now complete. The text then ends before it, and nothing may follow.
  bool push(int32_t token);
  // Ends the text: bytes of an unfinished character become U+FFFD, and what was held back is shown.
  void finish();

  // From here on `on_text` is shown what comes.
  void listen(Callback on_text) { on_text_ = std::move(on_text); }

  const std::string& text() const { return text_; }

 private:
  bool cut_at_stop(size_t searched);
  // The length of the text that no stop string can still take back.
  size_t certain() const;
  void show(size_t end);

  std::vector<std::string> stops_;
  size_t longest_stop_ = 0;
  Callback on_text_;
  std::unique_ptr<StreamDecoder> decoder_;
  std::string text_;
  size_t shown_ = 0;
  bool stopped_ = false;
};

}  // namespace espalier
