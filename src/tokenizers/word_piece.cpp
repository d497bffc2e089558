// WordPiece (BERT; Devlin et al. 2019): words between white space and punctuation, each cut into the longest pieces of
// the vocabulary from left to right; pieces inside a word begin with "##".
#include <algorithm>
#include <string>
#include <unordered_map>

#include "tokenizers/normalizer.h"
#include "tokenizers/split_tokenizer.h"

namespace espalier {
namespace {

class WordPiece : public SplitTokenizer {
 public:
  explicit WordPiece(const TokenizerData& data) : SplitTokenizer(data) {
    if (data.unk_id < 0 || static_cast<size_t>(data.unk_id) >= data.pieces.size()) {
      throw CorruptFile(error_text("tokenizer", "an unk_token of the vocabulary", "none"));
    }
    for (size_t id = 0; id < data_.pieces.size(); ++id) {
      const std::string& piece = data_.pieces[id];
      if (piece.empty()) continue;
      ids_.emplace(piece, static_cast<int32_t>(id));
      longest_ = std::max(longest_, piece.size());
      if (is_added(static_cast<int32_t>(id))) continue;
      const bool inside = piece.starts_with(data_.continuing_prefix) && piece.size() > data_.continuing_prefix.size();
      bytes_[id] = inside ? piece.substr(data_.continuing_prefix.size()) : " " + piece;
    }
  }

  bool has_prefix_space() const override { return true; }
  // Words are joined by spaces; special tokens stand apart, too. As transformers cleans up: no space before
  // punctuation and inside contractions.
  std::string decode(std::span<const int32_t> ids, bool keep_special) const override {
    std::string text;
    for (const int32_t id : ids) {
      std::string piece(bytes(id));
      if (is_special(id)) {
        if (!keep_special) continue;
        piece = " " + piece;
      }
      if (text.empty() && piece.starts_with(" ")) piece.erase(0, 1);
      if (text.empty() && piece.empty()) continue;
      text += cleaned_up(std::move(piece));
    }
    return text;
  }

 private:
  static std::string cleaned_up(std::string piece) {
    static constexpr std::pair<std::string_view, std::string_view> kReplaced[] = {
        {" .", "."},   {" ?", "?"},           {" !", "!"},   {" ,", ","},     {" ' ", "'"},    {" n't", "n't"},
        {" 'm", "'m"}, {" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"},
    };
    for (const auto& [from, to] : kReplaced) {
      for (size_t at = piece.find(from); at != std::string::npos; at = piece.find(from, at + to.size())) {
        piece.replace(at, from.size(), to);
      }
    }
    return piece;
  }

  void encode_plain(std::string_view text, bool, std::vector<int32_t>& ids) const override {
    const std::string clean = normalized(text, data_.normalizer);
    size_t begin = 0, at = 0;
    const auto end_word = [&] {
      if (at > begin) encode_word(std::string_view(clean).substr(begin, at - begin), ids);
    };
    each_character(clean, [&](int32_t code, std::string_view bytes) {
      const bool apart = is_punctuation(code);
      if (apart || is_white_space(code)) {
        end_word();
        if (apart) encode_word(bytes, ids);
        begin = at + bytes.size();
      }
      at += bytes.size();
    });
    end_word();
  }

  void encode_word(std::string_view word, std::vector<int32_t>& ids) const {
    int64_t characters = 0;
    each_character(word, [&](int32_t, std::string_view) { ++characters; });
    if (characters > data_.max_word_characters) {
      ids.push_back(data_.unk_id);
      return;
    }
    const size_t before = ids.size();
    std::string piece;
    for (size_t begin = 0; begin < word.size();) {
      const std::string& prefix = begin == 0 ? kNoPrefix : data_.continuing_prefix;
      size_t end = std::min(word.size(), begin + longest_);
      int32_t id = kNone;
      for (; end > begin && id == kNone; --end) {
        if (end < word.size() && (word[end] & 0xC0) == 0x80) continue;  // inside a character
        piece.assign(prefix).append(word.substr(begin, end - begin));
        const auto it = ids_.find(piece);
        if (it == ids_.end()) continue;
        id = it->second;
        break;
      }
      if (id == kNone) {
        ids.resize(before);
        ids.push_back(data_.unk_id);
        return;
      }
      ids.push_back(id);
      begin = end;
    }
  }

  inline static const std::string kNoPrefix;
  std::unordered_map<std::string, int32_t> ids_;
  size_t longest_ = 0;  // bytes of a piece
};

}  // namespace

std::unique_ptr<Tokenizer> make_word_piece(const TokenizerData& data) {
  return std::make_unique<WordPiece>(data);
}

}  // namespace espalier
