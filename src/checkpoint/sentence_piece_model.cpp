#include "checkpoint/sentence_piece_model.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <string_view>
#include <tuple>
#include <unordered_map>

#include "core/error.h"
#include "core/file.h"
#include "core/utf8.h"

namespace espalier {
namespace {

// One field of a protobuf message.
struct Field {
  uint32_t number;
  uint64_t value;          // of a varint, or the bits of a fixed one
  std::string_view bytes;  // of a string or a message
};

class Message {
 public:
  Message(std::string_view bytes, std::string where) : bytes_(bytes), where_(std::move(where)) {}

  // False at the end.
  bool next(Field& field) {
    if (at_ == bytes_.size()) return false;
    const uint64_t tag = varint();
    field = {static_cast<uint32_t>(tag >> 3), 0, {}};
    switch (tag & 7) {
      case 0:
        field.value = varint();
        return true;
      case 1:
        field.value = fixed(8);
        return true;
      case 2:
        field.bytes = take(varint());
        return true;
      case 5:
        field.value = fixed(4);
        return true;
      default:
        fail("a known kind of field");
    }
  }

 private:
  [[noreturn]] void fail(const std::string& expected) const {
    throw CorruptFile(error_text(where_, expected, "other bytes at " + std::to_string(at_)));
  }
  std::string_view take(uint64_t size) {
    if (size > bytes_.size() - at_) fail(std::to_string(size) + " bytes more");
    const std::string_view part = bytes_.substr(at_, size);
    at_ += size;
    return part;
  }
  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const uint64_t byte = static_cast<unsigned char>(take(1)[0]);
      value |= (byte & 0x7F) << shift;
      if (byte < 0x80) return value;
    }
    fail("a number of at most ten bytes");
  }
  uint64_t fixed(size_t size) {
    uint64_t value = 0;
    std::memcpy(&value, take(size).data(), size);
    return value;
  }

  std::string_view bytes_;
  std::string where_;
  size_t at_ = 0;
};

enum class Kind : uint64_t { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };

// Returns its kind.
Kind read_piece(std::string_view bytes, const std::string& where, TokenizerData& data) {
  Message message(bytes, where);
  std::string piece;
  float score = 0;
  Kind kind = Kind::kNormal;
  for (Field field; message.next(field);) {
    if (field.number == 1) piece = field.bytes;
    if (field.number == 2) score = std::bit_cast<float>(static_cast<uint32_t>(field.value));
    if (field.number == 3) kind = static_cast<Kind>(field.value);
  }
  constexpr size_t kLongestPiece = 4096, kMostPieces = 1 << 24;
  if (!std::isfinite(score) || piece.size() > kLongestPiece || data.pieces.size() >= kMostPieces) {
    throw CorruptFile(error_text(where, "finite scores, and up to 2^24 pieces of up to 4096 bytes", "others"));
  }
  if (utf8_error(piece) != std::string_view::npos)
    throw CorruptFile(error_text(where, "pieces in UTF-8", "other bytes"));
  const int32_t id = static_cast<int32_t>(data.pieces.size());
  data.pieces.push_back(piece);
  data.scores.push_back(score);
  if (kind == Kind::kUnknown) data.unk_id = id;
  if (kind == Kind::kByte) data.byte_fallback = true;
  if (kind == Kind::kControl || kind == Kind::kUnknown) data.control_ids.push_back(id);
  if (kind == Kind::kControl || kind == Kind::kUnknown || kind == Kind::kUserDefined) data.special_ids.push_back(id);
  if (piece == "<s>") data.bos_id = id;
  if (piece == "</s>") data.eos_id = id;
  if (piece == "<pad>") data.pad_id = id;
  return kind;
}

// Pieces merge in the order of their scores; every cut of a piece into two others is a pair that gives it. Special,
// user-defined and byte pieces have no part in it.
void merges_of_scores(TokenizerData& data, const std::vector<int32_t>& mergeable) {
  std::unordered_map<std::string_view, int32_t> ids;
  for (const int32_t id : mergeable) ids.emplace(data.pieces[static_cast<size_t>(id)], id);
  std::vector<std::tuple<double, int32_t, int32_t>> found;  // -score, left, right
  for (const int32_t id : mergeable) {
    const std::string_view piece = data.pieces[static_cast<size_t>(id)];
    for (size_t cut = 1; cut < piece.size(); ++cut) {
      const auto left = ids.find(piece.substr(0, cut)), right = ids.find(piece.substr(cut));
      if (left != ids.end() && right != ids.end())
        found.emplace_back(-data.scores[static_cast<size_t>(id)], left->second, right->second);
    }
  }
  std::sort(found.begin(), found.end());
  for (const auto& [score, left, right] : found) {
    data.merges.emplace_back(data.pieces[static_cast<size_t>(left)], data.pieces[static_cast<size_t>(right)]);
  }
  data.scores.clear();
}

}  // namespace

TokenizerData read_sentence_piece_model(const std::filesystem::path& path) {
  constexpr size_t kMost = size_t{256} << 20;
  const std::string bytes = read_text_file(path, kMost), where = path.filename().string();
  TokenizerData data;
  uint64_t algorithm = 1;
  bool prefix = true, only_words = true;
  std::vector<int32_t> mergeable;
  Message model(bytes, where);
  for (Field field; model.next(field);) {
    if (field.number == 1 && read_piece(field.bytes, where + ": pieces", data) == Kind::kNormal) {
      mergeable.push_back(static_cast<int32_t>(data.pieces.size()) - 1);
    }
    if (field.number == 2) {
      Message trainer(field.bytes, where + ": trainer_spec");
      for (Field own; trainer.next(own);) {
        if (own.number == 3) algorithm = own.value;
      }
    }
    if (field.number == 3) {
      Message normalizer(field.bytes, where + ": normalizer_spec");
      for (Field own; normalizer.next(own);) {
        if (own.number == 2) data.normalizer.charsmap = own.bytes;
        if (own.number == 3) prefix = own.value != 0;
        if (own.number == 4) only_words = own.value != 0;
      }
    }
  }
  if (data.pieces.empty()) throw CorruptFile(error_text(where, "pieces", "none"));
  if (algorithm != 1 && algorithm != 2) {
    throw NotSupported(error_text(where + ": model_type", "unigram (1) or BPE (2)", std::to_string(algorithm)));
  }
  data.model = algorithm == 1 ? "unigram" : "sentencepiece-bpe";
  // A table makes spaces of all white space, so that words are what stands between it; without one other white space is
  // letters.
  data.spaces.only_words = only_words && prefix && !data.normalizer.charsmap.empty();
  data.spaces.trimmed = only_words && !data.spaces.only_words;
  // Words of a unigram are cut one by one, which is the same unless a piece reaches over a space.
  const auto reaches_over = [](const std::string& piece) { return piece.find("\xE2\x96\x81", 1) != std::string::npos; };
  data.spaces.split = algorithm == 1 && std::none_of(data.pieces.begin(), data.pieces.end(), reaches_over);
  data.spaces.prepend = !prefix                  ? SpaceData::Prepend::kNever
                        : data.spaces.only_words ? SpaceData::Prepend::kAlways
                                                 : SpaceData::Prepend::kEvenSpaces;
  if (algorithm == 2) merges_of_scores(data, mergeable);
  return data;
}

}  // namespace espalier
