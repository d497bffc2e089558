// Byte-level BPE (GPT-2; Radford et al. 2019): words of bytes, merged in order of priority.
#include <string>
#include <unordered_map>

#include "core/utf8.h"
#include "tokenizers/bpe_merges.h"
#include "tokenizers/pre_tokenizer.h"
#include "tokenizers/split_tokenizer.h"

namespace espalier {
namespace {

// GPT-2 writes bytes as printable characters: themselves where printable, U+0100 and on for the rest.
std::vector<std::string> byte_alphabet() {
  std::vector<std::string> alphabet(256);
  uint32_t next = 0x100;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    const uint32_t code = printable ? byte : next++;
    if (code < 0x80) {
      alphabet[byte] = std::string(1, static_cast<char>(code));
    } else {
      alphabet[byte] = {static_cast<char>(0xC0 | (code >> 6)), static_cast<char>(0x80 | (code & 63))};
    }
  }
  return alphabet;
}

class ByteBpe : public SplitTokenizer {
 public:
  explicit ByteBpe(const TokenizerData& data) : SplitTokenizer(data), pre_tokenizer_(data.pre_tokenizer) {
    read_pieces();
    read_merges();
  }

 private:
  void read_pieces() {
    const std::vector<std::string> alphabet = byte_alphabet();
    std::unordered_map<std::string, int> byte_of;
    for (int byte = 0; byte < 256; ++byte) byte_of.emplace(alphabet[static_cast<size_t>(byte)], byte);
    for (size_t id = 0; id < data_.pieces.size(); ++id) {
      const std::string& piece = data_.pieces[id];
      if (is_added(static_cast<int32_t>(id))) continue;
      for (size_t i = 0; i < piece.size();) {
        const size_t length = utf8_step(std::string_view(piece).substr(i, 4)).bytes;
        const auto it = byte_of.find(piece.substr(i, length));
        if (it == byte_of.end()) {
          throw CorruptFile(
              error_text("tokenizer: piece " + std::to_string(id), "GPT-2's byte alphabet", "'" + piece + "'"));
        }
        bytes_[id] += static_cast<char>(it->second);
        i += length;
      }
      ids_.emplace(bytes_[id], static_cast<int32_t>(id));
    }
    for (int byte = 0; byte < 256; ++byte) {
      const auto it = ids_.find(std::string(1, static_cast<char>(byte)));
      byte_ids_[byte] = it == ids_.end() ? data_.unk_id : it->second;
    }
  }

  void read_merges() {
    std::unordered_map<std::string_view, int32_t> id_of;
    for (size_t id = 0; id < data_.pieces.size(); ++id) {
      if (!is_added(static_cast<int32_t>(id))) id_of.emplace(data_.pieces[id], static_cast<int32_t>(id));
    }
    for (size_t rank = 0; rank < data_.merges.size(); ++rank) {
      const auto& [left, right] = data_.merges[rank];
      const auto a = id_of.find(left), b = id_of.find(right), c = id_of.find(left + right);
      if (a == id_of.end() || b == id_of.end() || c == id_of.end()) {
        throw CorruptFile(error_text("tokenizer: merge " + std::to_string(rank), "pieces of the vocabulary",
                                     "'" + left + " " + right + "'"));
      }
      merges_.add(a->second, b->second, static_cast<int32_t>(rank), c->second);
    }
  }

  void encode_plain(std::string_view text, bool, std::vector<int32_t>& ids) const override {
    pre_tokenizer_.split(text, [&](std::string_view word) { encode_word(word, ids); });
  }

  void encode_word(std::string_view word, std::vector<int32_t>& ids) const {
    const auto whole = ids_.find(std::string(word));
    if (whole != ids_.end() && (data_.whole_words || word.size() == 1)) {
      ids.push_back(whole->second);
      return;
    }
    std::vector<int32_t> pieces;
    for (const char c : word) pieces.push_back(byte_ids_[static_cast<unsigned char>(c)]);
    merges_.apply(pieces);
    for (const int32_t id : pieces) {
      if (id >= 0) ids.push_back(id);
    }
  }

  PreTokenizer pre_tokenizer_;
  std::unordered_map<std::string, int32_t> ids_;  // bytes -> id
  BpeMerges merges_;
  int32_t byte_ids_[256];
};

}  // namespace

std::unique_ptr<Tokenizer> make_byte_bpe(const TokenizerData& data) {
  return std::make_unique<ByteBpe>(data);
}

}  // namespace espalier
