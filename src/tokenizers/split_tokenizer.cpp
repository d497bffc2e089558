#include "tokenizers/split_tokenizer.h"

#include <algorithm>

#include "core/utf8.h"

namespace espalier {

SplitTokenizer::SplitTokenizer(const TokenizerData& data) : data_(data) {
  special_.assign(data.pieces.size(), false);
  bytes_.resize(data.pieces.size());
  for (const int32_t id : data.special_ids) {
    if (id < 0 || static_cast<size_t>(id) >= data.pieces.size()) {
      throw CorruptFile(error_text("tokenizer", "special ids in the vocabulary", std::to_string(id)));
    }
    special_[static_cast<size_t>(id)] = true;
    bytes_[static_cast<size_t>(id)] = data.pieces[static_cast<size_t>(id)];
  }
  specials_by_length_ = data.special_ids;
  std::stable_sort(specials_by_length_.begin(), specials_by_length_.end(),
                   [&](int32_t a, int32_t b) { return data_.pieces[a].size() > data_.pieces[b].size(); });
}

std::vector<int32_t> SplitTokenizer::encode(std::span<const Part> parts, bool add_special) const {
  std::vector<int32_t> ids;
  if (add_special) ids = data_.prefix_ids;
  std::string plain;  // the text since the last special token
  bool first = true;
  for (const Part& part : parts) {
    if (const size_t bad = utf8_error(part.text); bad != std::string_view::npos) {
      throw InvalidArgument(error_text("text", "valid UTF-8", "an invalid byte at offset " + std::to_string(bad)));
    }
    size_t done = 0;
    for (size_t i = 0; part.parse_special && i < part.text.size();) {
      const int32_t id = special_at(part.text.substr(i));
      if (id == kNone) {
        ++i;
        continue;
      }
      plain += part.text.substr(done, i - done);
      encode_plain(plain, first, ids);
      first = false;
      plain.clear();
      ids.push_back(id);
      i += data_.pieces[static_cast<size_t>(id)].size();
      done = i;
    }
    plain += part.text.substr(done);
  }
  encode_plain(plain, first, ids);
  if (add_special) ids.insert(ids.end(), data_.suffix_ids.begin(), data_.suffix_ids.end());
  return ids;
}

std::string SplitTokenizer::decode(std::span<const int32_t> ids, bool keep_special) const {
  std::string text;
  for (const int32_t id : ids) {
    const std::string_view piece = bytes(id);
    if (keep_special || !is_special(id)) text += piece;
  }
  return text;
}

std::string_view SplitTokenizer::bytes(int32_t id) const {
  if (id < 0 || static_cast<size_t>(id) >= bytes_.size()) {
    throw InvalidArgument(
        error_text("token", "an id in [0, " + std::to_string(bytes_.size()) + ")", std::to_string(id)));
  }
  return bytes_[static_cast<size_t>(id)];
}

int32_t SplitTokenizer::special_id(std::string_view text) const {
  for (const int32_t id : data_.special_ids) {
    if (data_.pieces[static_cast<size_t>(id)] == text) return id;
  }
  return kNone;
}

// The longest special token that `text` begins with.
int32_t SplitTokenizer::special_at(std::string_view text) const {
  for (const int32_t id : specials_by_length_) {
    const std::string& piece = data_.pieces[static_cast<size_t>(id)];
    if (!piece.empty() && text.starts_with(piece)) return id;
  }
  return kNone;
}

}  // namespace espalier
