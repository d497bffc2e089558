#include "tokenizers/pre_tokenizer.h"

#include <string>

#include "core/error.h"
#include "core/tokenizer_data.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

namespace espalier {
namespace {

constexpr const char* kGpt2 = R"('(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

struct Rule {
  const char* name;
  const char* digits;
  const char* words;
};

constexpr Rule kRules[] = {
    {"smollm", R"(\p{N})", kGpt2},
    {"gpt2", nullptr, kGpt2},
    {"llama3", nullptr, kLlama3Words},
};

}  // namespace

struct PreTokenizer::Pattern {
  explicit Pattern(const char* text) {
    int error = 0;
    PCRE2_SIZE offset = 0;
    code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(text), PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &error,
                         &offset, nullptr);
    ESPALIER_CHECK(code != nullptr);
    pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);  // without JIT the interpreter gives the same matches
  }
  ~Pattern() { pcre2_code_free(code); }
  Pattern(const Pattern&) = delete;
  Pattern& operator=(const Pattern&) = delete;

  // Calls piece(text) for the matches and for what lies between them.
  template <class Piece>
  void split(std::string_view text, Piece&& piece) const {
    struct MatchData {
      pcre2_match_data* data;
      ~MatchData() { pcre2_match_data_free(data); }
    };
    const MatchData match{pcre2_match_data_create(1, nullptr)};
    size_t done = 0;
    while (done < text.size()) {
      const int found = pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), done,
                                    PCRE2_NO_UTF_CHECK, match.data, nullptr);
      if (found < 0 && found != PCRE2_ERROR_NOMATCH) {
        throw Internal(error_text("tokenizer", "a match within PCRE2's limits", "error " + std::to_string(found)));
      }
      if (found < 0) break;
      const PCRE2_SIZE* range = pcre2_get_ovector_pointer(match.data);
      if (range[0] > done) piece(text.substr(done, range[0] - done));
      if (range[1] == range[0]) break;
      piece(text.substr(range[0], range[1] - range[0]));
      done = range[1];
    }
    if (done < text.size()) piece(text.substr(done));
  }

  pcre2_code* code;
};

PreTokenizer::PreTokenizer(std::string_view name) {
  for (const Rule& rule : kRules) {
    if (name != rule.name) continue;
    if (rule.digits) digits_ = std::make_unique<Pattern>(rule.digits);
    words_ = std::make_unique<Pattern>(rule.words);
    return;
  }
  throw NotSupported(error_text("tokenizer", "pre-tokenizer smollm, gpt2 or llama3", "'" + std::string(name) + "'"));
}

PreTokenizer::~PreTokenizer() = default;

void PreTokenizer::split(std::string_view text, const std::function<void(std::string_view word)>& word) const {
  if (!digits_) return words_->split(text, word);
  // The words' look-ahead ends where a digit begins, as if the pieces were texts of their own.
  digits_->split(text, [&](std::string_view piece) { words_->split(piece, word); });
}

}  // namespace espalier
