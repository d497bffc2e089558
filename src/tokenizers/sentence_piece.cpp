// SentencePiece (Kudo & Richardson 2018): spaces are a letter, U+2581, and pieces are found over the text by merges
// (BPE; LLaMA, LLaMA-2) or as the likeliest cut into pieces (unigram; T5).
#include <algorithm>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>

#include "tokenizers/bpe_merges.h"
#include "tokenizers/charsmap.h"
#include "tokenizers/normalizer.h"
#include "tokenizers/split_tokenizer.h"

namespace espalier {
namespace {

constexpr std::string_view kSpace = "\xE2\x96\x81";  // U+2581

std::string with_spaces_as_letters(std::string_view text) {
  std::string result;
  for (const char c : text) c == ' ' ? result += kSpace : result += c;
  return result;
}

// Without spaces at the ends (at the last U+2581 is one, too), and but one of several.
std::string trimmed(std::string_view text) {
  std::string result;
  for (const char c : text) {
    if (c != ' ' || (!result.empty() && result.back() != ' ')) result += c;
  }
  while (result.ends_with(' ') || result.ends_with(kSpace)) {
    result.resize(result.size() - (result.ends_with(' ') ? 1 : kSpace.size()));
  }
  return result;
}

// The byte of "<0xNN>", or -1.
int byte_of_piece(const std::string& piece) {
  if (piece.size() != 6 || !piece.starts_with("<0x") || piece[5] != '>') return -1;
  int value = 0;
  for (const char c : piece.substr(3, 2)) {
    const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
    if (digit < 0) return -1;
    value = value * 16 + digit;
  }
  return value;
}

// Pieces by their bytes, walked from left to right.
class Trie {
 public:
  void add(std::string_view piece, int32_t id) {
    int32_t node = 0;
    for (const char c : piece) {
      const auto [it, is_new] = children_.emplace(key(node, c), static_cast<int32_t>(ids_.size()));
      if (is_new) ids_.push_back(-1);
      node = it->second;
    }
    if (ids_[static_cast<size_t>(node)] < 0) ids_[static_cast<size_t>(node)] = id;
  }
  // Calls body(bytes, id) for each piece that `text` begins with, shortest first.
  template <class Body>
  void each_beginning(std::string_view text, Body&& body) const {
    int32_t node = 0;
    for (size_t i = 0; i < text.size(); ++i) {
      const auto it = children_.find(key(node, text[i]));
      if (it == children_.end()) return;
      node = it->second;
      if (ids_[static_cast<size_t>(node)] >= 0) body(i + 1, ids_[static_cast<size_t>(node)]);
    }
  }

 private:
  static uint64_t key(int32_t node, char c) { return static_cast<uint64_t>(node) << 8 | static_cast<unsigned char>(c); }
  std::unordered_map<uint64_t, int32_t> children_;
  std::vector<int32_t> ids_{-1};
};

class SentencePiece : public SplitTokenizer {
 public:
  explicit SentencePiece(const TokenizerData& data) : SplitTokenizer(data), unigram_(data.model == "unigram") {
    if (!data.normalizer.charsmap.empty()) charsmap_.emplace(data.normalizer.charsmap);
    if (unigram_ && data.scores.size() != data.pieces.size()) {
      throw CorruptFile(
          error_text("tokenizer", std::to_string(data.pieces.size()) + " scores", std::to_string(data.scores.size())));
    }
    if (unigram_ && (data.unk_id < 0 || static_cast<size_t>(data.unk_id) >= data.pieces.size())) {
      throw CorruptFile(error_text("tokenizer", "an unknown token of the vocabulary", std::to_string(data.unk_id)));
    }
    std::fill(std::begin(byte_ids_), std::end(byte_ids_), kNone);
    for (size_t id = 0; id < data_.pieces.size(); ++id) {
      const std::string& piece = data_.pieces[id];
      if (is_added(static_cast<int32_t>(id))) {
        bytes_[id] = with_letters_as_spaces(piece);
        continue;
      }
      const int byte = data.byte_fallback ? byte_of_piece(piece) : -1;
      if (byte >= 0) {
        byte_ids_[byte] = static_cast<int32_t>(id);
        bytes_[id] = std::string(1, static_cast<char>(byte));
        if (unigram_) continue;
      } else {
        bytes_[id] = with_letters_as_spaces(piece);
      }
      ids_.emplace(piece, static_cast<int32_t>(id));
      if (unigram_ && !piece.empty()) {
        trie_.add(piece, static_cast<int32_t>(id));
        least_score_ = std::min(least_score_, data_.scores[id]);
      }
    }
    if (!unigram_) read_merges();
  }

  bool has_prefix_space() const override { return data_.spaces.prepend != SpaceData::Prepend::kNever; }
  // The space that the first piece begins with is the prefix's.
  std::string decode(std::span<const int32_t> ids, bool keep_special) const override {
    std::string text;
    bool first = true;
    for (const int32_t id : ids) {
      std::string_view piece = bytes(id);
      if (is_special(id) && !keep_special) continue;
      if (first && has_prefix_space() && piece.starts_with(' ')) piece.remove_prefix(1);
      first = false;
      text += piece;
    }
    return text;
  }

 private:
  static std::string with_letters_as_spaces(std::string_view piece) {
    std::string text(piece);
    for (size_t at = text.find(kSpace); at != std::string::npos; at = text.find(kSpace, at + 1)) {
      text.replace(at, kSpace.size(), " ");
    }
    return text;
  }

  void read_merges() {
    for (size_t rank = 0; rank < data_.merges.size(); ++rank) {
      const auto& [left, right] = data_.merges[rank];
      const auto a = ids_.find(left), b = ids_.find(right), c = ids_.find(left + right);
      if (a == ids_.end() || b == ids_.end() || c == ids_.end()) {
        // Added tokens are found before any merge.
        if (special_id(left) != kNone || special_id(right) != kNone || special_id(left + right) != kNone) continue;
        throw CorruptFile(error_text("tokenizer: merge " + std::to_string(rank), "pieces of the vocabulary",
                                     "'" + left + " " + right + "'"));
      }
      merges_.add(a->second, b->second, static_cast<int32_t>(rank), c->second);
    }
  }

  void encode_plain(std::string_view text, bool first, std::vector<int32_t>& ids) const override {
    std::string clean = normalized(charsmap_ ? charsmap_->apply(text) : std::string(text), data_.normalizer);
    if (data_.spaces.trimmed) clean = trimmed(clean);
    if (!data_.spaces.only_words) {
      encode_spaced(clean, first, ids);
      return;
    }
    size_t begin = 0, at = 0;
    each_character(clean, [&](int32_t code, std::string_view bytes) {
      if (is_white_space(code)) {
        if (at > begin) encode_spaced(std::string_view(clean).substr(begin, at - begin), first && begin == 0, ids);
        begin = at + bytes.size();
      }
      at += bytes.size();
    });
    if (at > begin) encode_spaced(std::string_view(clean).substr(begin), first && begin == 0, ids);
  }

  // A text with its spaces: prefix, cuts at spaces, pieces.
  void encode_spaced(std::string_view text, bool first, std::vector<int32_t>& ids) const {
    if (text.empty()) return;
    using Prepend = SpaceData::Prepend;
    std::string spaced = with_spaces_as_letters(text);
    const Prepend prepend = data_.spaces.prepend;
    const bool wanted = prepend == Prepend::kAlways || (prepend == Prepend::kFirst && first);
    if (prepend == Prepend::kEvenSpaces || (wanted && !spaced.starts_with(kSpace))) spaced.insert(0, kSpace);
    if (!data_.spaces.split) return encode_word(spaced, ids);
    size_t begin = 0;
    for (size_t at = spaced.find(kSpace, 1); at != std::string::npos; at = spaced.find(kSpace, at + 1)) {
      encode_word(std::string_view(spaced).substr(begin, at - begin), ids);
      begin = at;
    }
    encode_word(std::string_view(spaced).substr(begin), ids);
  }

  void encode_word(std::string_view word, std::vector<int32_t>& ids) const {
    unigram_ ? encode_likeliest(word, ids) : encode_merged(word, ids);
  }

  // A character without a piece: its bytes, or the unknown token, once for several in a row.
  void append_unknown(std::string_view character, bool after_unknown, std::vector<int32_t>& ids) const {
    const auto known = [&](char c) { return byte_ids_[static_cast<unsigned char>(c)] != kNone; };
    if (data_.byte_fallback && std::all_of(character.begin(), character.end(), known)) {
      for (const char c : character) ids.push_back(byte_ids_[static_cast<unsigned char>(c)]);
    } else if (!after_unknown && data_.unk_id >= 0) {
      ids.push_back(data_.unk_id);
    }
  }

  void encode_merged(std::string_view word, std::vector<int32_t>& ids) const {
    std::vector<int32_t> pieces;
    bool after_unknown = false;
    each_character(word, [&](int32_t, std::string_view character) {
      const auto it = ids_.find(std::string(character));
      if (it != ids_.end()) {
        pieces.push_back(it->second);
      } else {
        append_unknown(character, after_unknown, pieces);
      }
      after_unknown = it == ids_.end() && !pieces.empty() && pieces.back() == data_.unk_id;
    });
    merges_.apply(pieces);
    ids.insert(ids.end(), pieces.begin(), pieces.end());
  }

  // The cut of greatest summed score; a character that no piece begins with alone costs 10 below the worst piece.
  void encode_likeliest(std::string_view word, std::vector<int32_t>& ids) const {
    struct Node {
      double score = -std::numeric_limits<double>::infinity();
      size_t from = 0;
      int32_t id = kNone;
      bool reached = false;
    };
    std::vector<Node> nodes(word.size() + 1);  // the best cut up to each byte
    nodes[0] = {.score = 0, .from = 0, .id = kNone, .reached = true};
    size_t at = 0;
    each_character(word, [&](int32_t, std::string_view character) {
      const double here = nodes[at].score;
      const auto offer = [&](size_t bytes, double score, int32_t id) {
        Node& node = nodes[at + bytes];
        if (!node.reached || here + score > node.score) node = {here + score, at, id, true};
      };
      bool alone = false;
      trie_.each_beginning(word.substr(at), [&](size_t bytes, int32_t id) {
        offer(bytes, data_.scores[static_cast<size_t>(id)], id);
        alone = alone || bytes == character.size();
      });
      if (!alone) offer(character.size(), least_score_ - 10.0, kNone);
      at += character.size();
    });
    std::vector<std::pair<size_t, size_t>> cuts;  // last first
    for (size_t end = word.size(); end > 0; end = nodes[end].from) cuts.emplace_back(nodes[end].from, end);
    bool after_unknown = false;
    for (auto cut = cuts.rbegin(); cut != cuts.rend(); ++cut) {
      const int32_t id = nodes[cut->second].id;
      if (id != kNone) {
        ids.push_back(id);
      } else {
        append_unknown(word.substr(cut->first, cut->second - cut->first), after_unknown, ids);
      }
      after_unknown = id == kNone;
    }
  }

  bool unigram_;
  std::optional<Charsmap> charsmap_;
  std::unordered_map<std::string, int32_t> ids_;
  BpeMerges merges_;
  Trie trie_;
  double least_score_ = 0;
  int32_t byte_ids_[256];
};

}  // namespace

std::unique_ptr<Tokenizer> make_sentence_piece(const TokenizerData& data) {
  return std::make_unique<SentencePiece>(data);
}

}  // namespace espalier
