// Cuts text into the words that BPE merges within: the known regular expressions, through PCRE2.
#pragma once

#include <functional>
#include <memory>
#include <string_view>

namespace espalier {

class PreTokenizer {
 public:
  // "smollm", "gpt2", "llama3"; throws NotSupported naming another.
  explicit PreTokenizer(std::string_view name);
  ~PreTokenizer();

  // Calls word(piece) for consecutive pieces that make up `text`, which is valid UTF-8. Thread-safe.
  void split(std::string_view text, const std::function<void(std::string_view word)>& word) const;

 private:
  struct Pattern;
  std::unique_ptr<Pattern> digits_;  // null unless every digit stands alone first
  std::unique_ptr<Pattern> words_;
};

}  // namespace espalier
