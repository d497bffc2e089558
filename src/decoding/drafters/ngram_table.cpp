#include "decoding/drafters/ngram_table.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"
#include "core/file.h"
#include "core/hash.h"

namespace espalier {
namespace {

constexpr std::string_view kMagic = "ESPNGRAM";
constexpr uint32_t kVersion = 1;
constexpr size_t kHashDigits = 64;
constexpr size_t kMaxFileBytes = size_t{64} << 20;
constexpr int kTokenBits = 21;
constexpr uint64_t kTokenMask = (uint64_t{1} << kTokenBits) - 1;

std::string hash_text(std::string_view text) {
  return sha256(std::as_bytes(std::span(text.data(), text.size())));
}

int order_of(uint64_t context) {
  return context >> (2 * kTokenBits) ? 3 : (context >> kTokenBits ? 2 : 1);
}

uint64_t mixed(uint64_t key) {
  key = (key ^ (key >> 31)) * 0x9e3779b97f4a7c15ull;
  return key ^ (key >> 29);
}

void put(std::string& out, uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) out.push_back(static_cast<char>(value >> (8 * i)));
}

// Reads little-endian numbers from bytes that may end anywhere.
class Reader {
 public:
  Reader(std::string_view bytes, const std::string& where) : bytes_(bytes), where_(where) {}

  [[noreturn]] void refuse(const std::string& expected, const std::string& got) const {
    throw CorruptFile(error_text(where_, expected, got));
  }
  std::string_view take(size_t count, const char* field) {
    if (count > bytes_.size()) {
      refuse(std::to_string(count) + " bytes of " + field, std::to_string(bytes_.size()) + " bytes left");
    }
    const std::string_view taken = bytes_.substr(0, count);
    bytes_.remove_prefix(count);
    return taken;
  }
  uint64_t number(int bytes, const char* field) {
    const std::string_view taken = take(static_cast<size_t>(bytes), field);
    uint64_t value = 0;
    for (int i = bytes - 1; i >= 0; --i) value = (value << 8) | static_cast<uint8_t>(taken[static_cast<size_t>(i)]);
    return value;
  }
  size_t left() const { return bytes_.size(); }

 private:
  std::string_view bytes_;
  const std::string& where_;
};

int token_bytes_for(int64_t vocab_size) {
  return vocab_size <= 65536 ? 2 : 4;
}

}  // namespace

std::string vocabulary_hash(const Tokenizer& tokenizer) {
  Sha256 hash;
  for (int64_t id = 0; id < tokenizer.vocab_size(); ++id) {
    const std::string_view piece = tokenizer.bytes(static_cast<int32_t>(id));
    const uint64_t size = piece.size();
    hash.add(std::as_bytes(std::span(&size, 1)));
    hash.add(std::as_bytes(std::span(piece.data(), piece.size())));
  }
  return hash.finish();
}

uint64_t NgramTable::extended(uint64_t context, int32_t token) {
  return ((context << kTokenBits) | static_cast<uint64_t>(token + 1)) & ((uint64_t{1} << (3 * kTokenBits)) - 1);
}

uint64_t NgramTable::context_key(std::span<const int32_t> tokens) {
  uint64_t context = 0;
  for (const int32_t token : tokens) context = extended(context, token);
  return context;
}

uint64_t NgramTable::shortened(uint64_t context, int order) {
  return context & ((uint64_t{1} << (order * kTokenBits)) - 1);
}

int64_t NgramTable::contexts(int order) const {
  return std::count_if(entries_.begin(), entries_.end(),
                       [order](const Entry& entry) { return order_of(entry.context) == order; });
}

void NgramTable::add(uint64_t context, std::span<const Continuation> continuations) {
  entries_.push_back(
      {context, static_cast<uint32_t>(continuations_.size()), static_cast<uint32_t>(continuations.size())});
  continuations_.insert(continuations_.end(), continuations.begin(), continuations.end());
}

void NgramTable::index() {
  size_t size = 16;
  while (size < 2 * entries_.size()) size *= 2;
  slots_.assign(size, 0);
  for (size_t i = 0; i < entries_.size(); ++i) {
    size_t slot = mixed(entries_[i].context) & (size - 1);
    while (slots_[slot] != 0) slot = (slot + 1) & (size - 1);
    slots_[slot] = static_cast<uint32_t>(i + 1);
  }
}

std::span<const NgramTable::Continuation> NgramTable::find(uint64_t context) const {
  for (size_t slot = mixed(context) & (slots_.size() - 1); slots_[slot] != 0; slot = (slot + 1) & (slots_.size() - 1)) {
    const Entry& entry = entries_[slots_[slot] - 1];
    if (entry.context == context) return std::span(continuations_).subspan(entry.first, entry.count);
  }
  return {};
}

std::string NgramTable::serialize() const {
  std::string out(kMagic);
  put(out, kVersion, 4);
  put(out, static_cast<uint64_t>(vocab_size_), 4);
  out += vocabulary_;
  for (int order = 1; order <= kOrders; ++order) put(out, static_cast<uint64_t>(contexts(order)), 4);
  const int token_bytes = token_bytes_for(vocab_size_);
  for (const Entry& entry : entries_) {
    for (int i = order_of(entry.context) - 1; i >= 0; --i) {
      put(out, ((entry.context >> (i * kTokenBits)) & kTokenMask) - 1, token_bytes);
    }
    put(out, entry.count, 1);
    for (const Continuation& next : std::span(continuations_).subspan(entry.first, entry.count)) {
      put(out, static_cast<uint64_t>(next.token), token_bytes);
      put(out, next.share, 1);
    }
  }
  return out + hash_text(out);
}

void NgramTable::save(const std::filesystem::path& path) const {
  write_file(path, serialize());
}

namespace {

// One context's record: its key, and its continuations appended to `continuations`.
uint64_t read_record(Reader& reader, int order, int64_t vocab_size,
                     std::vector<NgramTable::Continuation>& continuations) {
  const int token_bytes = token_bytes_for(vocab_size);
  const auto token = [&](const char* field) {
    const uint64_t id = reader.number(token_bytes, field);
    if (id >= static_cast<uint64_t>(vocab_size)) {
      reader.refuse(std::string(field) + " below " + std::to_string(vocab_size), std::to_string(id));
    }
    return static_cast<int32_t>(id);
  };
  uint64_t context = 0;
  for (int i = 0; i < order; ++i) context = NgramTable::extended(context, token("a context's token"));
  const uint64_t count = reader.number(1, "a context's count");
  if (count < 1 || count > NgramTable::kMaxContinuations) {
    reader.refuse("1 to " + std::to_string(NgramTable::kMaxContinuations) + " continuations", std::to_string(count));
  }
  int shares = 0;
  for (uint64_t i = 0; i < count; ++i) {
    NgramTable::Continuation next{token("a continuation"), static_cast<uint8_t>(reader.number(1, "a share"))};
    shares += next.share;
    if (next.share == 0 || shares > 255) reader.refuse("shares of 1 to 255 in all", std::to_string(shares));
    for (const auto& before : continuations) {
      if (before.token == next.token) reader.refuse("a continuation once", std::to_string(next.token) + " twice");
    }
    continuations.push_back(next);
  }
  return context;
}

}  // namespace

NgramTable NgramTable::parse(std::string_view bytes, const std::string& where) {
  Reader reader(bytes, where);
  if (reader.take(kMagic.size(), "magic") != kMagic) reader.refuse("an n-gram table (ESPNGRAM)", "another magic");
  const uint64_t version = reader.number(4, "version");
  if (version != kVersion) reader.refuse("version " + std::to_string(kVersion), std::to_string(version));
  if (bytes.size() > kMaxFileBytes) {
    reader.refuse("at most " + std::to_string(kMaxFileBytes) + " bytes", std::to_string(bytes.size()));
  }
  const int64_t vocab_size = static_cast<int64_t>(reader.number(4, "vocabulary size"));
  if (vocab_size < 1 || vocab_size > kMaxVocabulary) {
    reader.refuse("a vocabulary of 1 to " + std::to_string(kMaxVocabulary), std::to_string(vocab_size));
  }
  NgramTable table(vocab_size, std::string(reader.take(kHashDigits, "vocabulary hash")));
  if (reader.left() < kHashDigits) reader.refuse("a checksum at the end", "too few bytes");
  const std::string_view content = bytes.substr(0, bytes.size() - kHashDigits);
  if (hash_text(content) != bytes.substr(content.size())) reader.refuse("the checksum of the content", "another");

  uint64_t counts[kOrders];
  size_t least = 0;
  for (int order = 1; order <= kOrders; ++order) {
    counts[order - 1] = reader.number(4, "number of contexts");
    // A record is at least its context, its count and one continuation.
    least += counts[order - 1] * (static_cast<size_t>(order + 1) * token_bytes_for(vocab_size) + 2);
  }
  if (least + kHashDigits > reader.left()) {
    reader.refuse(std::to_string(least) + " bytes of contexts", std::to_string(reader.left() - kHashDigits));
  }
  for (int order = 1; order <= kOrders; ++order) {
    uint64_t previous = 0;
    for (uint64_t i = 0; i < counts[order - 1]; ++i) {
      std::vector<Continuation> continuations;
      const uint64_t context = read_record(reader, order, vocab_size, continuations);
      if (context <= previous) reader.refuse("contexts in ascending order", "context " + std::to_string(i) + " is not");
      previous = context;
      table.add(context, continuations);
    }
  }
  if (reader.left() != kHashDigits) {
    reader.refuse("the end after the last context", std::to_string(reader.left() - kHashDigits) + " more bytes");
  }
  table.index();
  return table;
}

NgramTable NgramTable::load(const std::filesystem::path& path, const Tokenizer& tokenizer) {
  const MappedFile file(path);
  NgramTable table = parse(file.text(), path.string());
  if (table.vocab_size_ != tokenizer.vocab_size() || table.vocabulary_ != vocabulary_hash(tokenizer)) {
    throw InvalidArgument(error_text(path.string(), "a table of this model's vocabulary", "one of another",
                                     "make one with `espalier ngram`"));
  }
  return table;
}

void NgramDrafter::children(DraftCursor cursor, double, std::vector<DraftChild>& out) {
  const size_t first = out.size();
  const uint64_t context = static_cast<uint64_t>(cursor.value);
  float mass = 1;
  for (int order = NgramTable::kOrders; order >= 1; --order) {
    const uint64_t key = NgramTable::shortened(context, order);
    if (order_of(key) != order) continue;
    float explained = 0;
    for (const NgramTable::Continuation& next : table_.find(key)) {
      const float share = static_cast<float>(next.share) / 255.0f;
      explained += share;
      const auto same = std::find_if(out.begin() + static_cast<int64_t>(first), out.end(),
                                     [&](const DraftChild& child) { return child.token == next.token; });
      if (same == out.end()) {
        out.push_back({next.token, mass * share});
      } else {
        same->score += mass * share;
      }
    }
    mass *= 1 - explained;
  }
}

}  // namespace espalier
