#include "tokenizers/split_tokenizer.h"

#include <algorithm>

#include "core/utf8.h"

namespace espalier {

SplitTokenizer::SplitTokenizer(const TokenizerData& data) : data_(data) {
  added_.assign(data.pieces.size(), false);
  control_ = added_;
  bytes_.resize(data.pieces.size());
  for (const int32_t id : data.special_ids) {
    if (id < 0 || static_cast<size_t>(id) >= data.pieces.size()) {
      throw CorruptFile(error_text("tokenizer", "special ids in the vocabulary", std::to_string(id)));
    }
    added_[static_cast<size_t>(id)] = true;
    bytes_[static_cast<size_t>(id)] = data.pieces[static_cast<size_t>(id)];
  }
  for (const int32_t id : data.control_ids) {
    if (id >= 0 && static_cast<size_t>(id) < data.pieces.size()) control_[static_cast<size_t>(id)] = true;
  }
  for (const int32_t id : data.special_ids) always_ = always_ || !is_special(id);
  added_by_length_ = data.special_ids;
  std::stable_sort(added_by_length_.begin(), added_by_length_.end(),
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
    for (size_t i = 0; (part.parse_special || always_) && i < part.text.size();) {
      const int32_t id = added_at(part.text.substr(i), part.parse_special);
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

// The longest added token that `text` begins with; special ones only if `special`.
int32_t SplitTokenizer::added_at(std::string_view text, bool special) const {
  for (const int32_t id : added_by_length_) {
    const std::string& piece = data_.pieces[static_cast<size_t>(id)];
    if (!piece.empty() && text.starts_with(piece) && (special || !is_special(id))) return id;
  }
  return kNone;
}

}  // namespace espalier
