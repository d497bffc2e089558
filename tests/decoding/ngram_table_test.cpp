// N-gram tables: what is counted, what is drafted from it, and every way in which one thing of a file can be wrong.
#include "decoding/drafters/ngram_table.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "core/error.h"
#include "core/file.h"
#include "core/hash.h"
#include "core/rng.h"

namespace espalier {
namespace {

using Tokens = std::vector<int32_t>;
using Counts = std::map<Tokens, std::map<int32_t, int64_t>>;  // context -> token -> how often

constexpr int64_t kVocabulary = 300;
const std::string kHash(64, 'a');

uint64_t key_of(const Tokens& context) {
  return NgramTable::context_key(context);
}

void count(const Tokens& text, size_t first, Counts& counts) {
  for (size_t i = std::max<size_t>(1, first); i < text.size(); ++i) {
    for (size_t order = 1; order <= std::min<size_t>(3, i); ++order) {
      const auto end = text.begin() + static_cast<int64_t>(i);
      ++counts[Tokens(end - static_cast<int64_t>(order), end)][text[i]];
    }
  }
}

// Likeliest first, as 255ths of (count + what is left to shorter contexts).
std::vector<NgramTable::Continuation> shares(const std::map<int32_t, int64_t>& followers, size_t order) {
  const double reserve[] = {3, 2, 1};
  std::vector<std::pair<int64_t, int32_t>> sorted;
  double total = reserve[order - 1];
  for (const auto& [token, times] : followers) {
    sorted.push_back({-times, token});
    total += static_cast<double>(times);
  }
  std::sort(sorted.begin(), sorted.end());
  std::vector<NgramTable::Continuation> result;
  for (const auto& [times, token] : sorted) {
    const double share = std::floor(-255.0 * static_cast<double>(times) / total);
    if (result.size() < 8 && share >= 3) result.push_back({token, static_cast<uint8_t>(share)});
  }
  return result;
}

Tokens random_text(Random& random, int64_t length, int64_t alphabet) {
  Tokens text;
  for (int64_t i = 0; i < length; ++i) {
    // A little structure: a token is often a function of the one before.
    const bool follows = !text.empty() && random.below(3) > 0;
    text.push_back(static_cast<int32_t>(follows ? (text.back() * 3 + 1) % alphabet : random.below(alphabet)));
  }
  return text;
}

TEST(NgramTable, HoldsWhatAPlainCountGives) {
  for (const int64_t alphabet : {2, 6, 40}) {
    Random random(static_cast<uint64_t>(alphabet));
    NgramTableBuilder builder(kVocabulary, kHash);
    Counts counts;
    for (int i = 0; i < 6; ++i) {
      const Tokens text = random_text(random, 120, alphabet);
      const auto first = static_cast<size_t>(i * 17);
      builder.add(text, first);
      count(text, first, counts);
    }
    builder.add(Tokens{5}, 0);  // too short to say anything
    builder.add(Tokens{}, 0);
    const NgramTable table = builder.build(1 << 20);
    int64_t contexts[4] = {0, 0, 0, 0};
    std::map<Tokens, int32_t> likeliest;  // of contexts that are kept
    for (size_t order = 1; order <= 3; ++order) {
      for (const auto& [context, followers] : counts) {
        if (context.size() != order) continue;
        const auto expected = shares(followers, order);
        const auto got = table.find(key_of(context));
        int64_t total = 0;
        for (const auto& [token, times] : followers) total += times;
        const auto shorter = likeliest.find(Tokens(context.begin() + 1, context.end()));
        const bool says_the_same =
            total == 1 && shorter != likeliest.end() && !expected.empty() && shorter->second == expected[0].token;
        if (expected.empty() || says_the_same) {
          EXPECT_TRUE(got.empty());
          continue;
        }
        ++contexts[order];
        likeliest[context] = expected[0].token;
        ASSERT_EQ(got.size(), expected.size());
        for (size_t i = 0; i < got.size(); ++i) {
          EXPECT_EQ(got[i].token, expected[i].token);
          EXPECT_EQ(got[i].share, expected[i].share);
        }
      }
      EXPECT_EQ(table.contexts(static_cast<int>(order)), contexts[order]) << order;
      EXPECT_GT(contexts[order], 1);
    }
    EXPECT_TRUE(table.find(key_of({299})).empty());
    EXPECT_TRUE(table.find(0).empty());
  }
}

// Contexts that occurred most are kept, short ones first among equals, up to the last byte that is allowed.
TEST(NgramTable, KeepsTheMostFrequentThatFit) {
  Random random(9);
  const Tokens text = random_text(random, 400, 12);
  NgramTableBuilder builder(kVocabulary, kHash);
  builder.add(text, 0);
  Counts counts;
  count(text, 0, counts);
  const auto total_of = [&](const Tokens& context) {
    int64_t total = 0;
    for (const auto& [token, times] : counts[context]) total += times;
    return total;
  };
  const NgramTable whole = builder.build(1 << 20);
  for (const size_t most : {size_t{0}, size_t{200}, size_t{300}, size_t{500}, size_t{501}, whole.serialize().size() - 1,
                            whole.serialize().size()}) {
    const NgramTable table = builder.build(most);
    const size_t bytes = table.serialize().size();
    const size_t empty = 8 + 4 + 4 + 64 + 12 + 64;
    EXPECT_LE(bytes, std::max(most, empty));
    // How often, then how short.
    std::pair<int64_t, int> least_kept{INT64_MAX, 0}, greatest_lost{0, -9};
    for (const auto& [context, followers] : counts) {
      if (whole.find(key_of(context)).empty()) continue;
      const std::pair<int64_t, int> rank{total_of(context), -static_cast<int>(context.size())};
      if (table.find(key_of(context)).empty()) {
        greatest_lost = std::max(greatest_lost, rank);
      } else {
        least_kept = std::min(least_kept, rank);
      }
    }
    EXPECT_GE(least_kept, greatest_lost) << most;
    if (most >= whole.serialize().size()) {
      EXPECT_EQ(bytes, whole.serialize().size());
    }
    if (most == whole.serialize().size() - 1) {
      EXPECT_LT(bytes, whole.serialize().size());
    }
  }
}

// Scores by the definition: the longest known context first, each passing on what it leaves unexplained.
std::map<int32_t, double> plain_scores(const NgramTable& table, const Tokens& text) {
  std::map<int32_t, double> scores;
  double mass = 1;
  for (size_t order = std::min<size_t>(3, text.size()); order >= 1; --order) {
    double left = 1;
    for (const auto& next : table.find(key_of(Tokens(text.end() - static_cast<int64_t>(order), text.end())))) {
      scores[next.token] += mass * next.share / 255.0;
      left -= next.share / 255.0;
    }
    mass *= left;
  }
  return scores;
}

TEST(NgramDrafter, GivesTheMixtureOfItsOrders) {
  Random random(2);
  NgramTableBuilder builder(kVocabulary, kHash);
  for (int i = 0; i < 5; ++i) builder.add(random_text(random, 200, 9), 0);
  const NgramTable table = builder.build(1 << 20);
  NgramDrafter drafter(table);
  Tokens text;
  int mixed = 0;
  for (int step = 0; step < 300; ++step) {
    if (step % 60 == 59) {
      drafter.reset();
      text.clear();
    }
    const auto token = static_cast<int32_t>(random.below(step % 7 == 0 ? kVocabulary : 9));  // unknown ones, too
    text.push_back(token);
    drafter.observe(token);
    std::vector<DraftChild> children{{77, 0.5f}};  // what others proposed stays
    drafter.children(drafter.root(), 1.0, children);
    EXPECT_EQ(children[0].token, 77);
    EXPECT_EQ(children[0].score, 0.5f);
    const auto expected = plain_scores(table, text);
    ASSERT_EQ(children.size() - 1, expected.size());
    double sum = 0;
    for (size_t i = 1; i < children.size(); ++i) {
      ASSERT_TRUE(expected.contains(children[i].token));
      EXPECT_NEAR(children[i].score, expected.at(children[i].token), 1e-6);
      sum += children[i].score;
    }
    EXPECT_LE(sum, 1 + 1e-6);
    mixed += expected.size() > table.find(NgramTable::shortened(key_of(text), 3)).size();
    // One further, whoever proposed it: the same as having observed it.
    const auto next = static_cast<int32_t>(random.below(9));
    Tokens longer = text;
    longer.push_back(next);
    children.clear();
    drafter.children(drafter.advance(drafter.root(), next), 1.0, children);
    EXPECT_EQ(children.size(), plain_scores(table, longer).size());
  }
  EXPECT_GT(mixed, 20);
}

// The arithmetic by hand: 4 times a b, once a c; then an unknown longer context leaves all to the shorter.
TEST(NgramDrafter, BacksOffByTheShareThatIsLeft) {
  NgramTableBuilder builder(kVocabulary, kHash);
  for (int i = 0; i < 4; ++i) builder.add(Tokens{1, 2}, 0);
  builder.add(Tokens{1, 3}, 0);
  builder.add(Tokens{9, 1, 3}, 0);
  builder.add(Tokens{9, 1, 4}, 0);
  const NgramTable table = builder.build(1 << 20);
  // After 1: 2 four times, 3 twice, 4 once, and 3 in reserve; after 9 1: 3 and 4 once, and 2 in reserve.
  const double one_2 = std::floor(255 * 4 / 10.0) / 255, one_3 = std::floor(255 * 2 / 10.0) / 255,
               one_4 = std::floor(255 * 1 / 10.0) / 255, both = std::floor(255 * 1 / 4.0) / 255;
  NgramDrafter drafter(table);
  const auto scores = [&] {
    std::vector<DraftChild> children;
    drafter.children(drafter.root(), 1.0, children);
    std::map<int32_t, double> result;
    for (const DraftChild& child : children) result[child.token] = child.score;
    return result;
  };
  EXPECT_TRUE(scores().empty());
  drafter.observe(1);
  auto got = scores();
  ASSERT_EQ(got.size(), 3u);
  EXPECT_NEAR(got[2], one_2, 1e-6);
  EXPECT_NEAR(got[3], one_3, 1e-6);
  EXPECT_NEAR(got[4], one_4, 1e-6);
  drafter.reset();
  drafter.observe(9);
  drafter.observe(1);
  got = scores();
  ASSERT_EQ(got.size(), 3u);
  EXPECT_NEAR(got[3], both + (1 - 2 * both) * one_3, 1e-6);
  EXPECT_NEAR(got[4], both + (1 - 2 * both) * one_4, 1e-6);
  EXPECT_NEAR(got[2], (1 - 2 * both) * one_2, 1e-6);
  drafter.reset();
  drafter.observe(8);
  drafter.observe(1);
  EXPECT_NEAR(scores()[2], one_2, 1e-6);  // 8 1 is unknown and takes nothing
}

// A byte is a token.
class Bytes : public Tokenizer {
 public:
  explicit Bytes(int64_t size, char last = 'z') : size_(size), last_(1, last) {}
  using Tokenizer::encode;
  std::vector<int32_t> encode(std::span<const Part>, bool) const override { return {}; }
  std::string decode(std::span<const int32_t>, bool) const override { return ""; }
  std::string_view bytes(int32_t id) const override { return id == size_ - 1 ? std::string_view(last_) : "x"; }
  int64_t vocab_size() const override { return size_; }
  bool is_special(int32_t) const override { return false; }
  int32_t special_id(std::string_view) const override { return -1; }

 private:
  int64_t size_;
  std::string last_;
};

class NgramFiles : public ::testing::Test {
 protected:
  NgramFiles() : path_(std::filesystem::temp_directory_path() / ("espalier-ngram-" + std::to_string(::getpid()))) {}
  ~NgramFiles() override { std::filesystem::remove(path_); }
  std::filesystem::path path_;
};

TEST_F(NgramFiles, BelongToOneVocabulary) {
  const Bytes right(kVocabulary);
  NgramTableBuilder builder(kVocabulary, vocabulary_hash(right));
  builder.add(Tokens{1, 2, 3, 4, 1, 2}, 0);
  builder.build(1 << 20).save(path_);
  EXPECT_EQ(NgramTable::load(path_, right).serialize(), builder.build(1 << 20).serialize());
  EXPECT_THROW(NgramTable::load(path_, Bytes(kVocabulary + 1)), InvalidArgument);
  EXPECT_THROW(NgramTable::load(path_, Bytes(kVocabulary - 1)), InvalidArgument);
  EXPECT_THROW(NgramTable::load(path_, Bytes(kVocabulary, 'y')), InvalidArgument);  // its last token is another
  // Alone, either of size and hash is another vocabulary.
  NgramTableBuilder(kVocabulary, kHash).build(1 << 20).save(path_);
  EXPECT_THROW(NgramTable::load(path_, right), InvalidArgument);
  NgramTableBuilder(kVocabulary + 1, vocabulary_hash(right)).build(1 << 20).save(path_);
  EXPECT_THROW(NgramTable::load(path_, right), InvalidArgument);
  std::filesystem::remove(path_);
  EXPECT_THROW(NgramTable::load(path_, right), InvalidArgument);
  // A piece's border counts: "ab", "c" is another vocabulary than "a", "bc".
  EXPECT_NE(vocabulary_hash(right), vocabulary_hash(Bytes(kVocabulary, 'x')));
}

std::string sealed(std::string content) {
  return content + sha256(std::as_bytes(std::span(content.data(), content.size())));
}
std::string number(uint64_t value, int bytes) {
  std::string out;
  for (int i = 0; i < bytes; ++i) out += static_cast<char>(value >> (8 * i));
  return out;
}

struct Record {
  Tokens context;
  std::vector<std::pair<int32_t, int>> next;
  int count = -1;  // what the file says; -1: as many as there are
};

std::string file_of(const std::vector<Record>& records, uint64_t vocab_size = kVocabulary, uint64_t version = 1,
                    const std::string& magic = "ESPNGRAM") {
  std::string out = magic + number(version, 4) + number(vocab_size, 4) + kHash;
  for (size_t order = 1; order <= 3; ++order) {
    out += number(static_cast<uint64_t>(std::count_if(records.begin(), records.end(),
                                                      [&](const Record& r) { return r.context.size() == order; })),
                  4);
  }
  const int bytes = vocab_size <= 65536 ? 2 : 4;
  for (const Record& record : records) {
    for (const int32_t token : record.context) out += number(static_cast<uint64_t>(token), bytes);
    out += number(record.count < 0 ? record.next.size() : static_cast<uint64_t>(record.count), 1);
    for (const auto& [token, share] : record.next) {
      out += number(static_cast<uint64_t>(token), bytes) + number(static_cast<uint64_t>(share), 1);
    }
  }
  return out;
}

const std::vector<Record> kGood = {{{1}, {{2, 100}, {3, 155}}}, {{5}, {{1, 1}}},
                                   {{1, 2}, {{3, 255}}},        {{2, 1}, {{299, 7}}},
                                   {{0, 0, 0}, {{0, 9}}},       {{1, 2, 3}, {{4, 200}, {2, 55}}}};

TEST_F(NgramFiles, OneWrongThingIsRefused) {
  const NgramTable good = NgramTable::parse(sealed(file_of(kGood)), "x");
  EXPECT_EQ(good.serialize(), sealed(file_of(kGood)));
  EXPECT_EQ(good.contexts(1), 2);
  EXPECT_EQ(good.contexts(2), 2);
  EXPECT_EQ(good.contexts(3), 2);
  EXPECT_EQ(good.find(key_of({2, 1}))[0].token, 299);
  EXPECT_EQ(good.find(key_of({0, 0, 0}))[0].share, 9);
  EXPECT_TRUE(good.find(key_of({0, 0})).empty());
  const auto refused = [](const std::string& content, const std::string& part) {
    try {
      NgramTable::parse(sealed(content), "t.ngram");
      ADD_FAILURE() << "accepted: " << part;
    } catch (const CorruptFile& error) {
      EXPECT_NE(std::string(error.what()).find("t.ngram"), std::string::npos) << error.what();
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << part << ": " << error.what();
    }
  };
  const auto changed = [&](size_t index, auto&& change, const std::string& part) {
    std::vector<Record> records = kGood;
    change(records[index]);
    refused(file_of(records), part);
  };
  refused(file_of(kGood, kVocabulary, 1, "ESPNGRAN"), "magic");
  for (const uint64_t version : {0, 2, 256}) refused(file_of(kGood, kVocabulary, version), "version");
  refused(file_of(kGood, 299), "a continuation below 299");  // 299 is the first id that is none
  refused(file_of({}, 0), "a vocabulary of");
  refused(file_of({}, (1 << 21) - 1), "a vocabulary of");
  EXPECT_NO_THROW(NgramTable::parse(sealed(file_of({}, (1 << 21) - 2)), "x"));
  changed(
      0, [](Record& r) { r.context[0] = 300; }, "a context's token below 300");
  changed(
      0, [](Record& r) { r.next[0].first = 300; }, "a continuation below 300");
  changed(
      0, [](Record& r) { r.next[0].second = 0; }, "shares");
  changed(
      0, [](Record& r) { r.next[0].second = 101; }, "shares");  // 256 in all
  changed(
      0, [](Record& r) { r.next[1].first = 2; }, "twice");
  changed(
      0, [](Record& r) { r.next.clear(); }, "continuations");
  changed(
      4,
      [](Record& r) {
        r.next.clear();
        for (int i = 0; i < 9; ++i) r.next.push_back({i, 1});
      },
      "8 continuations");
  std::vector<Record> eight = kGood;
  eight[4].next.clear();
  for (int i = 0; i < 8; ++i) eight[4].next.push_back({i, 1});
  EXPECT_NO_THROW(NgramTable::parse(sealed(file_of(eight)), "x"));
  changed(
      1, [](Record& r) { r.context = {1}; }, "ascending");  // the same again
  changed(
      1, [](Record& r) { r.context = {0}; }, "ascending");
  changed(
      3,
      [](Record& r) {
        r.context = {1, 1};
      },
      "ascending");
  changed(
      5,
      [](Record& r) {
        r.context = {0, 0, 0};
      },
      "ascending");
  changed(
      5, [](Record& r) { r.count = 1; }, "more bytes");
  refused(file_of(kGood) + "x", "more bytes");
  for (const size_t place : {80, 84, 88}) {  // a context more than there are
    std::string more = file_of(kGood);
    ++more[place];
    EXPECT_THROW(NgramTable::parse(sealed(more), "x"), CorruptFile) << place;
    more[place + 3] = '\xff';
    EXPECT_THROW(NgramTable::parse(sealed(more), "x"), CorruptFile) << place;
  }
  const std::string whole = sealed(file_of(kGood)), content = file_of(kGood);
  for (size_t size = 0; size < whole.size(); ++size) {
    EXPECT_THROW(NgramTable::parse(whole.substr(0, size), "x"), CorruptFile) << size;
    if (size < content.size()) {
      EXPECT_THROW(NgramTable::parse(sealed(content.substr(0, size)), "x"), CorruptFile);
    }
    std::string flipped = whole;
    flipped[size] = static_cast<char>(flipped[size] ^ 1);
    EXPECT_THROW(NgramTable::parse(flipped, "x"), CorruptFile) << size;
  }
}

// Beyond 65,536 tokens an id takes four bytes.
TEST_F(NgramFiles, WideVocabulariesHaveWideTokens) {
  const std::vector<Record> records = {{{70000}, {{69999, 10}}}, {{65536, 65535}, {{70000, 3}}}};
  for (const uint64_t size : {uint64_t{70001}, uint64_t{1 << 20}}) {
    const NgramTable table = NgramTable::parse(sealed(file_of(records, size)), "x");
    EXPECT_EQ(table.find(key_of({70000}))[0].token, 69999);
    EXPECT_EQ(table.find(key_of({65536, 65535}))[0].token, 70000);
    EXPECT_EQ(table.serialize(), sealed(file_of(records, size)));
  }
  const std::vector<Record> narrow = {{{65535}, {{65534, 10}}}};
  EXPECT_EQ(NgramTable::parse(sealed(file_of(narrow, 65536)), "x").find(key_of({65535}))[0].token, 65534);
  EXPECT_EQ(NgramTable::parse(sealed(file_of(narrow, 65537)), "x").find(key_of({65535}))[0].token, 65534);
  EXPECT_THROW(NgramTableBuilder(NgramTable::kMaxVocabulary + 1, kHash), NotSupported);
  NgramTableBuilder greatest(NgramTable::kMaxVocabulary, kHash);
  const auto last = static_cast<int32_t>(NgramTable::kMaxVocabulary - 1);
  greatest.add(Tokens{last, last, last, last, last}, 0);
  EXPECT_EQ(NgramTable::parse(greatest.build(1 << 20).serialize(), "x").find(key_of({last, last, last}))[0].token,
            last);
}

}  // namespace
}  // namespace espalier
