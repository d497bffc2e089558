// SentencePiece's precompiled table of replacements (its normalizer; "nmt_nfkc" in T5): a double-array trie from byte
// strings to offsets of replacements.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace espalier {

class Charsmap {
 public:
  // The bytes as a model file holds them: u32 size of the trie in bytes, its units (u32), then replacements, each
  // ended by a 0. Throws CorruptFile when sizes do not fit.
  explicit Charsmap(std::string_view bytes);

  // `text` in valid UTF-8: each grapheme of less than six bytes that the table knows is replaced as a whole, others
  // character by character, as the tokenizers library does.
  std::string apply(std::string_view text) const;

 private:
  std::optional<std::string_view> replacement(std::string_view chunk) const;

  std::vector<uint32_t> units_;
  std::string replacements_;
};

}  // namespace espalier
