// What a checkpoint says about its tokenizer, before any algorithm is chosen: written by checkpoint,
// read by tokenizers.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace espalier {

// Steps before the words; see tokenizers/normalizer.h.
struct NormalizerData {
  bool clean = false, chinese_apart = false, strip_accents = false, lower_case = false;
  bool collapse_spaces = false, strip_left = false, strip_right = false;
  std::string form;      // "nfc", "nfd", "nfkc", "nfkd", or ""
  std::string charsmap;  // SentencePiece's table of replacements, see tokenizers/charsmap.h; or ""
};

// How SentencePiece writes spaces: as U+2581.
struct SpaceData {
  enum class Prepend { kNever, kFirst, kAlways, kEvenSpaces } prepend = Prepend::kAlways;
  bool only_words = false;  // white space separates words and is dropped, each word gets the prefix
  bool split = false;       // a piece holds no space but at its beginning
  bool trimmed = false;     // spaces at a text's ends are dropped, and of several in a row all but one
};

// What LLaMA-3's tokenizer takes as a word.
inline constexpr const char* kLlama3Words =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

struct TokenizerData {
  std::string model;                // "bpe" (byte-level), "wordpiece", "sentencepiece-bpe", "unigram"
  NormalizerData normalizer;        // of all but "bpe"
  std::string pre_tokenizer;        // "smollm", "gpt2", "llama3": a name, never a regular expression to run
  std::vector<std::string> pieces;  // id -> text (V); of "bpe" in the byte-level alphabet
  std::vector<std::pair<std::string, std::string>> merges;  // in order of priority
  bool whole_words = false;                                 // a word that is a piece is taken without merging ("bpe")
  SpaceData spaces;                                         // of SentencePiece's two
  std::vector<double> scores;                               // of "unigram", log-probabilities
  bool byte_fallback = false;                               // characters without a piece are spelt as <0xNN>
  std::vector<int32_t> special_ids;                         // matched whole in the text, never split
  std::vector<int32_t> control_ids;                         // special tokens that decode() leaves out of plain text
  int32_t bos_id = -1, eos_id = -1, unk_id = -1, pad_id = -1;
  std::vector<int32_t> end_ids;                 // all ids that end a generation (eos, eot, <|im_end|>)
  std::vector<int32_t> prefix_ids, suffix_ids;  // what stands around every text: bos; [CLS] and [SEP]
  std::string continuing_prefix = "##";         // of pieces inside a word (wordpiece)
  int64_t max_word_characters = 100;            // longer words are unknown (wordpiece)
  std::string chat_template;                    // Jinja text: looked up in a table, never executed
};

}  // namespace espalier
