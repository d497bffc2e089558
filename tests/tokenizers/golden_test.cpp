// Every kind of tokenizer against the libraries that define them (tests/data/tokenizers/make_tokenizers.py), and laws
// that hold for all of them.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "checkpoint/hf_tokenizer.h"
#include "checkpoint/json_file.h"
#include "core/rng.h"
#include "core/utf8.h"
#include "tokenizers/tokenizer.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using Ids = std::vector<int32_t>;

const fs::path kFolder = fs::path(ESPALIER_TEST_DATA) / "tokenizers";

const Json& golden() {
  static const Json json = read_json_file(kFolder / "golden.json");
  return json;
}

std::unique_ptr<Tokenizer> tokenizer_of(const std::string& name) {
  return make_tokenizer(read_hf_tokenizer(kFolder / name, "llama", 0));
}

Ids encoded(const Tokenizer& tokenizer, std::string_view text, bool special) {
  const Tokenizer::Part part{text, special};
  return tokenizer.encode({&part, 1}, special);
}

std::string streamed(const Tokenizer& tokenizer, const Ids& ids, bool at_start = true) {
  StreamDecoder decoder(tokenizer, at_start);
  std::string text;
  for (const int32_t id : ids) {
    const std::string piece = decoder.push(id);
    EXPECT_EQ(utf8_error(piece), std::string::npos);
    text += piece;
  }
  return text + decoder.finish();
}

class FromJson : public ::testing::TestWithParam<const char*> {};

TEST_P(FromJson, IdsAndTextsAreThoseOfTheTokenizersLibrary) {
  const auto tokenizer = tokenizer_of(GetParam());
  const Json &texts = golden()["texts"], &rows = golden()[GetParam()];
  ASSERT_EQ(texts.size(), rows.size());
  for (size_t i = 0; i < texts.size(); ++i) {
    const std::string text = texts[i];
    const Ids plain = rows[i][0], special = rows[i][1];
    // A unigram's piece of a byte stands for no text, as in SentencePiece; the library takes "<0x41>" for an A.
    if (std::string(GetParam()) == "unigram_bytes" && text.find("<0x") != std::string::npos) continue;
    EXPECT_EQ(encoded(*tokenizer, text, false), plain) << texts[i].dump();
    EXPECT_EQ(encoded(*tokenizer, text, true), special) << texts[i].dump();
    EXPECT_EQ(utf8_repaired(tokenizer->decode(special)), rows[i][2].get<std::string>()) << texts[i].dump();
    EXPECT_EQ(utf8_repaired(tokenizer->decode(special, true)), rows[i][3].get<std::string>()) << texts[i].dump();
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, FromJson,
                         ::testing::Values("gpt2", "smollm", "llama3", "llama3_merges", "wordpiece", "wordpiece_cased",
                                           "wordpiece_accents", "unigram", "unigram_bytes", "llama2", "space_first",
                                           "space_never"),
                         [](const auto& info) { return std::string(info.param); });

// T5's own file, with its table of replacements, as transformers reads it.
TEST(T5, IdsAndTextsAreThoseOfTheTokenizersLibrary) {
  const fs::path folder = fs::path(::testing::TempDir()) / ("golden_t5_" + std::to_string(::getpid()));
  fs::create_directories(folder);
  fs::copy(kFolder / "t5.model", folder / "spiece.model");
  const auto tokenizer = make_tokenizer(read_hf_tokenizer(folder, "t5", 32128));
  fs::remove_all(folder);
  EXPECT_EQ(tokenizer->vocab_size(), 32128);
  const Json &texts = golden()["texts"], &rows = golden()["t5"];
  ASSERT_EQ(texts.size(), rows.size());
  for (size_t i = 0; i < texts.size(); ++i) {
    const std::string text = texts[i];
    const Ids plain = rows[i][0], special = rows[i][1];
    EXPECT_EQ(encoded(*tokenizer, text, false), plain) << texts[i].dump();
    EXPECT_EQ(encoded(*tokenizer, text, true), special) << texts[i].dump();
    EXPECT_EQ(tokenizer->decode(special), rows[i][2].get<std::string>()) << texts[i].dump();
  }
}

class FromModelFile : public ::testing::TestWithParam<const char*> {};

TEST_P(FromModelFile, IdsAndTextsAreThoseOfSentencePiece) {
  const auto tokenizer = tokenizer_of(GetParam());
  const Json &texts = golden()["texts"], &rows = golden()["models"][GetParam()];
  ASSERT_EQ(texts.size(), rows.size());
  for (size_t i = 0; i < texts.size(); ++i) {
    const Ids ids = rows[i][0];
    EXPECT_EQ(encoded(*tokenizer, texts[i].get<std::string>(), false), ids) << texts[i].dump();
    if (std::find(ids.begin(), ids.end(), 0) != ids.end()) continue;  // unknown pieces: "⁇" there, nothing here
    EXPECT_EQ(utf8_repaired(tokenizer->decode(ids)), rows[i][1].get<std::string>()) << texts[i].dump();
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, FromModelFile,
                         ::testing::Values("piece_bpe", "piece_unigram", "piece_phrases", "piece_plain"),
                         [](const auto& info) { return std::string(info.param); });

// Pieces of words, white space, marks, emoji and added tokens in any order; valid UTF-8.
std::string random_text(Random& random) {
  const Json& texts = golden()["texts"];
  std::string text;
  for (int64_t parts = random.below(5); parts >= 0; --parts) {
    const std::string whole = texts[static_cast<size_t>(random.below(static_cast<int64_t>(texts.size())))];
    std::string part = whole.substr(0, static_cast<size_t>(random.below(12)));
    while (!part.empty() && utf8_error(part) != std::string::npos) part.pop_back();
    text += part;
  }
  return text;
}

class ByteLevel : public ::testing::TestWithParam<const char*> {};

TEST_P(ByteLevel, DecodingGivesBackEveryText) {
  const auto tokenizer = tokenizer_of(GetParam());
  Random random(1);
  for (int trial = 0; trial < 3000; ++trial) {
    const std::string text = random_text(random);
    for (const bool special : {false, true}) {
      const Ids ids = encoded(*tokenizer, text, special);
      const size_t around = special ? encoded(*tokenizer, "", true).size() : 0;
      const Ids own(ids.begin() + static_cast<std::ptrdiff_t>(around), ids.end());
      ASSERT_EQ(tokenizer->decode(own, true), text);
      std::string bytes;
      for (const int32_t id : own) bytes += tokenizer->bytes(id);
      ASSERT_EQ(bytes, text);
    }
    ASSERT_EQ(streamed(*tokenizer, encoded(*tokenizer, text, false)), text);
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, ByteLevel, ::testing::Values("gpt2", "smollm", "llama3", "llama3_merges"),
                         [](const auto& info) { return std::string(info.param); });

class AnyKind : public ::testing::TestWithParam<const char*> {};

TEST_P(AnyKind, PartsAreOneTextAndSpecialTokensAreParsedWhereAskedForAlone) {
  const auto tokenizer = tokenizer_of(GetParam());
  Random random(2);
  for (int trial = 0; trial < 500; ++trial) {
    std::vector<std::string> texts;
    for (int64_t i = 1 + random.below(4); i > 0; --i) texts.push_back(random_text(random));
    std::vector<Tokenizer::Part> parts;
    std::string whole;
    for (const std::string& text : texts) {
      parts.push_back({text, false});
      whole += text;
    }
    if (whole.find("<extra>") == std::string::npos) {  // no added token that a cut could part or make
      ASSERT_EQ(tokenizer->encode(parts, false), encoded(*tokenizer, whole, false));
    }
    const Ids ids = tokenizer->encode(parts, false), around = tokenizer->encode(parts, true);
    ASSERT_GE(around.size(), ids.size());
    ASSERT_TRUE(ids.empty() || std::search(around.begin(), around.end(), ids.begin(), ids.end()) != around.end());
  }
}

TEST_P(AnyKind, StreamedTextsAreDecodedTexts) {
  const std::string name = GetParam();
  const auto tokenizer = tokenizer_of(name);
  Random random(3);
  for (int trial = 0; trial < 1000; ++trial) {
    // Ids of texts, and any ids: parts of characters, invalid bytes, special tokens.
    Ids ids = encoded(*tokenizer, random_text(random), trial % 2 == 0);
    if (trial % 3 == 0) {
      for (int32_t& id : ids) id = static_cast<int32_t>(random.below(tokenizer->vocab_size()));
    }
    if (name.starts_with("wordpiece")) {  // words are cleaned up one by one there
      std::string bytes;
      for (const int32_t id : ids) bytes += tokenizer->is_special(id) ? "" : std::string(tokenizer->bytes(id));
      ASSERT_EQ(streamed(*tokenizer, ids, false), bytes);
      continue;
    }
    ASSERT_EQ(streamed(*tokenizer, ids), utf8_repaired(tokenizer->decode(ids)));
  }
}

TEST_P(AnyKind, IdsOutsideTheVocabularyAndInvalidTextsAreRefused) {
  const auto tokenizer = tokenizer_of(GetParam());
  const int32_t size = static_cast<int32_t>(tokenizer->vocab_size());
  EXPECT_NO_THROW(tokenizer->decode(Ids{0, size - 1}));
  EXPECT_THROW(tokenizer->decode(Ids{size}), InvalidArgument);
  EXPECT_THROW(tokenizer->decode(Ids{-1}), InvalidArgument);
  EXPECT_THROW(tokenizer->bytes(size), InvalidArgument);
  for (const std::string bad : {"\xFF", "\xC3", "\xC0\x80", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\xE2\x82"}) {
    try {
      tokenizer->encode("ab" + bad + "c");
      ADD_FAILURE() << "taken";
    } catch (const InvalidArgument& error) {
      EXPECT_NE(std::string(error.what()).find("offset 2"), std::string::npos) << error.what();
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, AnyKind,
                         ::testing::Values("gpt2", "smollm", "llama3", "wordpiece", "wordpiece_cased",
                                           "wordpiece_accents", "unigram", "unigram_bytes", "llama2", "space_first",
                                           "space_never", "llama3_merges", "piece_bpe", "piece_unigram",
                                           "piece_phrases", "piece_plain"),
                         [](const auto& info) { return std::string(info.param); });

TEST(SpecialTokens, AreNamedAndKnown) {
  const auto tokenizer = tokenizer_of("llama3");
  const int32_t end = tokenizer->special_id("<|end|>"), extra = tokenizer->special_id("<extra>");
  ASSERT_GE(end, 0);
  ASSERT_GE(extra, 0);
  EXPECT_TRUE(tokenizer->is_special(end));
  EXPECT_FALSE(tokenizer->is_special(extra));  // matched whole, but a part of texts
  EXPECT_FALSE(tokenizer->is_special(-1));
  EXPECT_FALSE(tokenizer->is_special(static_cast<int32_t>(tokenizer->vocab_size())));
  EXPECT_EQ(tokenizer->special_id("<|en|>"), -1);
  EXPECT_EQ(tokenizer->decode(Ids{end, extra}), "<extra>");
  EXPECT_EQ(tokenizer->decode(Ids{end, extra}, true), "<|end|><extra>");
  EXPECT_EQ(tokenizer->encode("a").front(), tokenizer->special_id("<s>"));
}

// Words reach over from part to part; a special token's text is that token in the parts alone that ask for it.
TEST(SpecialTokens, AreFoundInThePartsThatAskForThem) {
  for (const char* name : {"gpt2", "smollm", "llama3"}) {
    const auto tokenizer = tokenizer_of(name);
    const int32_t end = tokenizer->special_id("<|end|>"), extra = tokenizer->special_id("<extra>");
    const std::vector<Tokenizer::Part> parts = {{"x<|end|>", true}, {"<|end|>y", false}, {"z<|end|>", true},
                                                {"<ex", false},     {"tra> th", true},   {"e<extra>", false}};
    Ids expected = encoded(*tokenizer, "x", false);
    const auto add = [&](const Ids& ids) { expected.insert(expected.end(), ids.begin(), ids.end()); };
    add({end});
    add(encoded(*tokenizer, "<|end|>yz", false));
    add({end, tokenizer->special_id("<ex")});  // an added token does not reach over
    add(encoded(*tokenizer, "tra> the", false));
    add({extra});
    EXPECT_EQ(tokenizer->encode(parts, false), expected) << name;
  }
}

// tokenizer_config.json and generation_config.json beside a tokenizer.json, varied one thing at a time.
class Surroundings : public ::testing::Test {
 protected:
  Surroundings() { fs::create_directories(folder_); }
  ~Surroundings() override { fs::remove_all(folder_); }

  TokenizerData read(const std::string& tokenizer, const Json& config, const Json& generation = {},
                     const std::string& family = "llama", int64_t vocab_size = 0) const {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
    for (const auto& entry : fs::directory_iterator(kFolder / tokenizer)) {
      fs::copy(entry.path(), folder_ / entry.path().filename());
    }
    if (!config.is_null()) std::ofstream(folder_ / "tokenizer_config.json") << config;
    if (!generation.is_null()) std::ofstream(folder_ / "generation_config.json") << generation;
    return read_hf_tokenizer(folder_, family, vocab_size);
  }

  fs::path folder_ = fs::path(::testing::TempDir()) / ("surroundings_" + std::to_string(::getpid()));
};

TEST_F(Surroundings, OfATokenizerJson) {
  const int32_t end = tokenizer_of("gpt2")->special_id("<|end|>");
  const TokenizerData none = read("gpt2", {});
  EXPECT_EQ(none.bos_id, -1);
  EXPECT_EQ(none.eos_id, -1);
  EXPECT_TRUE(none.end_ids.empty());
  EXPECT_TRUE(none.prefix_ids.empty());
  EXPECT_EQ(none.chat_template, "");
  EXPECT_EQ(none.control_ids, Ids{end});
  EXPECT_EQ(none.special_ids.size(), 4u);  // it, and three added ones that are a part of texts

  const Json named = {{"bos_token", "<|end|>"},
                      {"eos_token", {{"content", "b"}}},
                      {"unk_token", "c"},
                      {"pad_token", "d"},
                      {"chat_template", "{{ x }}"}};
  const TokenizerData data = read("gpt2", named);
  EXPECT_EQ(data.bos_id, end);
  EXPECT_EQ(data.pieces[static_cast<size_t>(data.eos_id)], "b");
  EXPECT_EQ(data.pieces[static_cast<size_t>(data.unk_id)], "c");
  EXPECT_EQ(data.pieces[static_cast<size_t>(data.pad_id)], "d");
  EXPECT_EQ(data.chat_template, "{{ x }}");
  EXPECT_EQ(data.end_ids, Ids{data.eos_id});
  EXPECT_TRUE(data.prefix_ids.empty());  // a beginning stands before a text where the file says so alone
  Json adds = named;
  adds["add_bos_token"] = true;
  EXPECT_EQ(read("gpt2", adds).prefix_ids, Ids{end});
  adds["add_bos_token"] = false;
  EXPECT_TRUE(read("gpt2", adds).prefix_ids.empty());

  EXPECT_EQ(read("gpt2", named, {{"eos_token_id", 7}}).end_ids, (Ids{data.eos_id, 7}));
  EXPECT_EQ(read("gpt2", {}, {{"eos_token_id", {7, 9}}}).end_ids, (Ids{7, 9}));
  EXPECT_EQ(read("gpt2", {}, {{"eos_token_id", nullptr}}).end_ids, Ids{});

  // The vocabulary of a model that was rounded up.
  const int64_t size = static_cast<int64_t>(none.pieces.size());
  EXPECT_EQ(read("gpt2", {}, {}, "llama", size + 5).pieces.size(), static_cast<size_t>(size + 5));
  EXPECT_EQ(read("gpt2", {}, {}, "llama", size - 5).pieces.size(), static_cast<size_t>(size));
  const TokenizerData padded = read("unigram", {}, {}, "t5", 1000);
  EXPECT_EQ(padded.scores.size(), 1000u);
  EXPECT_EQ(make_tokenizer(padded)->decode(Ids{999}), "");
}

// Merges are pairs, or were texts with a space.
TEST_F(Surroundings, MergesInBothForms) {
  for (const char* name : {"gpt2", "llama2"}) {
    const TokenizerData pairs = read(name, {});
    ASSERT_GT(pairs.merges.size(), 10u);
    Json json = read_json_file(folder_ / "tokenizer.json");
    for (Json& merge : json["model"]["merges"]) {
      merge = merge[0].get<std::string>() + " " + merge[1].get<std::string>();
    }
    std::ofstream(folder_ / "tokenizer.json") << json;
    EXPECT_EQ(read_hf_tokenizer(folder_, "llama", 0).merges, pairs.merges);
  }
}

// The ids are those of the tokenizers library (0.23).
TEST_F(Surroundings, HowAMetaspaceWritesSpaces) {
  const Json model = {{"type", "BPE"},
                      {"vocab", {{"\u2581", 0}, {"a", 1}, {"b", 2}, {"a\u2581", 3}, {"<x>", 4}}},
                      {"merges", Json::array({Json::array({"a", "\u2581"})})}};
  const Json added = {{"id", 4}, {"content", "<x>"}, {"special", true}};
  const auto expect = [&](const Json& keys, const Ids& middle, const Ids& first, const Ids& behind) {
    Json pre = {{"type", "Metaspace"}, {"replacement", "\u2581"}};
    pre.update(keys);
    const Json json = {{"model", model}, {"pre_tokenizer", pre}, {"added_tokens", Json::array({added})}};
    std::ofstream(folder_ / "tokenizer.json") << json;
    const auto tokenizer = make_tokenizer(read_hf_tokenizer(folder_, "llama", 0));
    EXPECT_EQ(encoded(*tokenizer, "a b", true), middle) << keys;
    EXPECT_EQ(encoded(*tokenizer, " a", true), first) << keys;
    EXPECT_EQ(encoded(*tokenizer, "a<x>a b", true), behind) << keys;
  };
  expect({{"prepend_scheme", "never"}, {"split", true}}, {1, 0, 2}, {0, 1}, {1, 4, 1, 0, 2});
  expect({{"prepend_scheme", "never"}, {"split", false}}, {3, 2}, {0, 1}, {1, 4, 3, 2});
  expect({{"prepend_scheme", "never"}}, {1, 0, 2}, {0, 1}, {1, 4, 1, 0, 2});
  expect({{"prepend_scheme", "always"}}, {0, 1, 0, 2}, {0, 1}, {0, 1, 4, 0, 1, 0, 2});
  expect({{"prepend_scheme", "first"}, {"split", false}}, {0, 3, 2}, {0, 1}, {0, 1, 4, 3, 2});
  expect({{"add_prefix_space", true}}, {0, 1, 0, 2}, {0, 1}, {0, 1, 4, 0, 1, 0, 2});
  expect({{"add_prefix_space", false}}, {1, 0, 2}, {0, 1}, {1, 4, 1, 0, 2});
  expect(Json::object(), {0, 1, 0, 2}, {0, 1}, {0, 1, 4, 0, 1, 0, 2});
}

// A character without a piece costs 10 more than the worst piece: "ab", "c" against an unknown a and "bc", on both
// sides of -31. The ids are those of the tokenizers library.
TEST(Unigram, AnUnknownCharacterCostsTenMoreThanTheWorstPiece) {
  TokenizerData data;
  data.model = "unigram";
  data.pieces = {"<unk>", "\u2581", "ab", "c", "bc"};
  data.spaces = {.prepend = SpaceData::Prepend::kNever};
  data.special_ids = data.control_ids = {0};
  data.unk_id = 0;
  for (const double score : {-10.5, -11.5}) {
    data.scores = {0.0, -2.0, -20.0, score, -1.0};
    EXPECT_EQ(encoded(*make_tokenizer(data), "abc", false), (score > -11 ? Ids{2, 3} : Ids{0, 4}));
  }
}

TEST_F(Surroundings, OfAModelFile) {
  const TokenizerData plain = read("piece_unigram", {});
  EXPECT_EQ(plain.bos_id, 1);
  EXPECT_EQ(plain.eos_id, 2);
  EXPECT_EQ(plain.unk_id, 0);
  EXPECT_EQ(plain.prefix_ids, Ids{1});
  EXPECT_TRUE(plain.suffix_ids.empty());
  EXPECT_EQ(plain.end_ids, Ids{2});
  EXPECT_TRUE(read("piece_unigram", {{"add_bos_token", false}}).prefix_ids.empty());
  EXPECT_EQ(read("piece_unigram", {{"add_eos_token", true}, {"eos_token", "</s>"}}).suffix_ids, Ids{2});
  EXPECT_EQ(read("piece_unigram", {{"eos_token", "</s>"}}).end_ids, Ids{2});

  const TokenizerData t5 = read("piece_unigram", {}, {}, "t5");
  EXPECT_EQ(t5.suffix_ids, Ids{2});
  EXPECT_TRUE(t5.prefix_ids.empty());
  EXPECT_EQ(t5.pieces.size(), plain.pieces.size() + 100);
  EXPECT_EQ(t5.pieces.back(), "<extra_id_0>");
  EXPECT_EQ(t5.pieces[plain.pieces.size()], "<extra_id_99>");
  const auto tokenizer = make_tokenizer(t5);
  EXPECT_TRUE(tokenizer->is_special(static_cast<int32_t>(t5.pieces.size()) - 1));
  EXPECT_TRUE(read("piece_unigram", {{"add_eos_token", false}}, {}, "t5").suffix_ids.empty());
}

}  // namespace
}  // namespace espalier
