// What an output's text is, where stop texts end it, and what of it is shown when: against plain string searches over
// the whole text.
#include "decoding/text_output.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "core/error.h"
#include "core/rng.h"
#include "core/utf8.h"
#include "decoding/generate.h"
#include "support/adversarial_drafter.h"
#include "support/listed_tokenizer.h"
#include "support/tiny_model.h"

namespace espalier {
namespace {

using testing::ListedTokenizer;

// The end of `text` without the bytes of an unfinished last character; what is invalid before it, repaired.
std::string whole_characters(const std::string& text) {
  for (size_t length = 1; length <= std::min<size_t>(3, text.size()); ++length) {
    const auto lead = static_cast<unsigned char>(text[text.size() - length]);
    if ((lead & 0xC0) == 0x80) continue;
    const size_t bytes = lead > 0xF4 ? 1 : lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC2 ? 2 : 1;
    if (bytes > length) return utf8_repaired(text.substr(0, text.size() - length));
    break;
  }
  return utf8_repaired(text);
}

size_t first_stop(const std::string& text, const std::vector<std::string>& stops) {
  size_t first = std::string::npos;
  for (const std::string& stop : stops) first = std::min(first, text.find(stop));
  return first;
}

// How much of `text` no stop can take back: all but the longest end that a stop begins with.
size_t certain(const std::string& text, const std::vector<std::string>& stops) {
  for (size_t begin = 0; begin < text.size(); ++begin) {
    for (const std::string& stop : stops) {
      if (stop.starts_with(text.substr(begin))) return begin;
    }
  }
  return text.size();
}

struct Expected {
  size_t tokens;                    // taken
  bool stopped;                     // by a stop text
  std::string text;                 // of the output
  std::vector<std::string> pieces;  // shown, where not empty
};

// What is to come of `ids`, when nothing but stops and their number end the text.
Expected plain_output(const std::vector<std::string>& pieces, const std::vector<int32_t>& ids,
                      const std::vector<std::string>& stops) {
  Expected expected{0, false, "", {}};
  std::string bytes;
  size_t shown = 0;
  const auto show = [&](const std::string& text, size_t end) {
    if (end > shown) expected.pieces.push_back(text.substr(shown, end - shown));
    shown = std::max(shown, end);
  };
  for (const int32_t id : ids) {
    bytes += pieces[static_cast<size_t>(id)];
    ++expected.tokens;
    const std::string text = whole_characters(bytes);
    if (const size_t stop = first_stop(text, stops); stop != std::string::npos) {
      expected.text = text.substr(0, stop);
      expected.stopped = true;
      show(text, stop);
      return expected;
    }
    show(text, certain(text, stops));
  }
  expected.text = utf8_repaired(bytes);
  show(expected.text, expected.text.size());
  return expected;
}

std::string joined(const std::vector<std::string>& pieces) {
  std::string text;
  for (const std::string& piece : pieces) text += piece;
  return text;
}

void expect_output(const std::vector<std::string>& pieces, const std::vector<int32_t>& ids,
                   const std::vector<std::string>& stops) {
  const ListedTokenizer tokenizer(pieces);
  const Expected expected = plain_output(pieces, ids, stops);
  std::vector<std::string> shown;
  TextOutput output(&tokenizer, stops, [&](std::string_view text) { shown.emplace_back(text); });
  for (size_t i = 0; i < expected.tokens; ++i) {
    const bool last = i + 1 == expected.tokens;
    ASSERT_EQ(output.push(ids[i]), last && expected.stopped) << "token " << i;
  }
  output.finish();
  ASSERT_EQ(output.text(), expected.text);
  ASSERT_EQ(shown, expected.pieces);
  ASSERT_EQ(joined(shown), expected.text);
  for (const std::string& piece : shown) ASSERT_EQ(utf8_error(piece), std::string::npos);
}

// All ways to cut `text` into tokens of bytes.
void expect_all_splits(const std::string& text, const std::vector<std::string>& stops) {
  ASSERT_LE(text.size(), 12u);
  for (uint32_t cuts = 0; cuts < 1u << (text.size() - 1); ++cuts) {
    std::vector<std::string> pieces = {text.substr(0, 1)};
    for (size_t i = 1; i < text.size(); ++i) {
      if (cuts >> (i - 1) & 1) pieces.emplace_back();
      pieces.back() += text[i];
    }
    std::vector<int32_t> ids(pieces.size());
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i);
    expect_output(pieces, ids, stops);
    if (::testing::Test::HasFatalFailure()) FAIL() << "'" << text << "' cut as " << cuts;
  }
}

TEST(TextOutput, StopTextsAreFoundHoweverTokensCutThem) {
  expect_all_splits("aaab", {"aab"});
  expect_all_splits("xaaabyy", {"aab"});
  expect_all_splits("ababac", {"abac"});
  expect_all_splits("abcabd", {"abd", "abcabe"});      // half a stop, then another one
  expect_all_splits("one stop", {"stop", "sto"});      // one is a prefix of another
  expect_all_splits("one stop", {"top", "one stop"});  // one ends inside another
  expect_all_splits("ENDxyz", {"END"});                // at the very first token
  expect_all_splits("abc\n\nd", {"\n\n"});
  expect_all_splits("so nearly", {"nearly!"});                    // half a stop at the end of all: it is text
  expect_all_splits("h\xC3\xA9\xE2\x82\xAC!", {"\xE2\x82\xAC"});  // a stop of three bytes
  expect_all_splits("a\xF0\x9F\x98\x80z\xF0\x9F\x98", {"\xF0\x9F\x98\x81"});  // its last byte is another, then none
  expect_all_splits("a\xFF\xC3(b", {"b"});                                    // invalid bytes
  expect_all_splits("none of it", {});
}

TEST(TextOutput, EqualsAPlainSearchForRandomTextsAndStops) {
  const std::vector<std::string> pieces = {"a",  "b",    "aa",   "ab",       "ba",       "aab",  "c",
                                           "",   "\xC3", "\xA9", "\xE2\x82", "\xAC",     "\xF0", "\x9F\x98\x80",
                                           " a", "bab",  "cab",  "abcab",    "\xC3\xA9", "\xFF"};
  Random random(5);
  int stopped = 0, held = 0;
  for (int trial = 0; trial < 20000; ++trial) {
    const int64_t kinds = trial % 2 ? 7 : static_cast<int64_t>(pieces.size());
    std::vector<int32_t> ids(static_cast<size_t>(1 + random.below(25)));
    for (int32_t& id : ids) id = static_cast<int32_t>(random.below(kinds));
    std::vector<std::string> stops(static_cast<size_t>(random.below(4)));
    for (std::string& stop : stops) {
      while (stop.empty() || utf8_error(stop) != std::string::npos) {
        stop.clear();
        for (int64_t i = 1 + random.below(4); i > 0; --i) stop += pieces[static_cast<size_t>(random.below(kinds))];
      }
    }
    expect_output(pieces, ids, stops);
    if (HasFatalFailure()) FAIL() << "trial " << trial;
    const Expected expected = plain_output(pieces, ids, stops);
    stopped += expected.stopped;
    held += !expected.stopped && certain(expected.text, stops) < expected.text.size();
  }
  EXPECT_GT(stopped, 3000);
  EXPECT_GT(held, 500);
}

TEST(TextOutput, SpecialTokensGiveNothingAndAPrefixSpaceIsDroppedAtTheStartAlone) {
  const std::vector<std::string> pieces = {" a", "<s>", " b"};
  const auto text = [&](bool prefix_space, bool at_start, const std::vector<int32_t>& ids) {
    const ListedTokenizer tokenizer(pieces, {1}, prefix_space);
    TextOutput output(&tokenizer, {}, nullptr, at_start);
    for (const int32_t id : ids) output.push(id);
    output.finish();
    return output.text();
  };
  EXPECT_EQ(text(true, true, {1, 0, 1, 2, 0}), "a b a");
  EXPECT_EQ(text(true, false, {1, 0, 1, 2, 0}), " a b a");
  EXPECT_EQ(text(false, true, {0, 2}), " a b");
}

TEST(TextOutput, RefusesStopsThatMeanNothing) {
  const ListedTokenizer tokenizer({"a"});
  EXPECT_THROW(TextOutput(&tokenizer, {"a", ""}, nullptr), InvalidArgument);
  EXPECT_THROW(TextOutput(nullptr, {"a"}, nullptr), InvalidArgument);
  TextOutput without(nullptr, {}, nullptr);
  EXPECT_FALSE(without.push(3));
  EXPECT_EQ(without.text(), "");
}

// --- generate(): where outputs end

// Short pieces of few letters, so that stops are met often, and over several tokens.
std::vector<std::string> letter_pieces(int64_t vocab_size) {
  const std::vector<std::string> letters = {"a", "b", "ab", "ba", "\xC3", "\xA9", "c", " "};
  std::vector<std::string> pieces;
  for (int64_t id = 0; id < vocab_size; ++id) pieces.push_back(letters[static_cast<size_t>(id) % letters.size()]);
  return pieces;
}

struct Streamed {
  GenerateResult result;
  std::vector<std::string> pieces;
};

class Ends : public ::testing::Test {
 protected:
  Ends() : pieces_(letter_pieces(model_->config().vocab_size)), tokenizer_(pieces_) {}

  GenerateRequest request(uint64_t seed) const {
    GenerateRequest request{.prompt = testing::random_tokens(5, model_->config().vocab_size, seed)};
    request.options.max_tokens = 40;
    request.options.logprobs = 0;
    request.options.sampler = {.temperature = 1.0, .seed = seed};
    return request;
  }
  Streamed run(GenerateRequest request) {
    Streamed streamed;
    request.on_text = [&](std::string_view text) { streamed.pieces.emplace_back(text); };
    streamed.result = Generator(*model_, &tokenizer_, workspace_).generate(request);
    return streamed;
  }
  // The same with trees that hold the right tokens mostly.
  Streamed run_drafted(GenerateRequest request, const std::vector<int32_t>& answer) {
    std::vector<int32_t> text = request.prompt;
    text.insert(text.end(), answer.begin(), answer.end());
    request.options.speculation = {.mode = SpeculationMode::kNgram, .tree_nodes = 16};
    request.options.speculation.make_drafters = [this, text] {
      std::vector<std::unique_ptr<Drafter>> drafters;
      drafters.push_back(std::make_unique<testing::AdversarialDrafter>(text, model_->config().vocab_size, 9));
      return drafters;
    };
    return run(std::move(request));
  }
  // The request gives the first `tokens` of `whole`, with that text, those pieces and that reason; with and without
  // speculation.
  void expect(const GenerateRequest& request, const std::vector<int32_t>& whole, size_t tokens, FinishReason reason,
              const std::string& text, const std::vector<std::string>& pieces) {
    for (const bool drafted : {false, true}) {
      const Streamed streamed = drafted ? run_drafted(request, whole) : run(request);
      ASSERT_EQ(streamed.result.tokens, std::vector<int32_t>(whole.begin(), whole.begin() + tokens)) << drafted;
      ASSERT_EQ(streamed.result.finish_reason, reason);
      ASSERT_EQ(streamed.result.text, text);
      ASSERT_EQ(streamed.pieces, pieces);
      ASSERT_EQ(streamed.result.logprobs.size(), tokens);
      // The state holds the prompt and all tokens but the last.
      const int64_t held = static_cast<int64_t>(request.prompt.size() + tokens) - (tokens > 0 ? 1 : 0);
      ASSERT_EQ(streamed.result.state.length(), held);
    }
  }

  std::unique_ptr<Model> model_ = testing::load_tiny_model({});
  std::vector<std::string> pieces_;
  ListedTokenizer tokenizer_;
  Workspace workspace_{1};
};

TEST_F(Ends, StopTextsAreThoseOfAPlainSearch) {
  Random random(7);
  int stopped = 0, first = 0;
  for (uint64_t trial = 0; trial < 60; ++trial) {
    GenerateRequest wanted = request(trial);
    const std::vector<int32_t> whole = run(wanted).result.tokens;
    ASSERT_EQ(whole.size(), 40u);
    const std::string text = plain_output(pieces_, whole, {}).text;
    // Parts of the text that are likely to come, one of them now and then of its beginning; and one that never does.
    for (int64_t count = 1 + random.below(3); count > 0; --count) {
      const int64_t at = trial % 6 == 0 ? 0 : random.below(static_cast<int64_t>(text.size()) - 6);
      const std::string stop = utf8_repaired(text.substr(static_cast<size_t>(at), 1 + random.below(6)));
      if (stop.find(std::string(kReplacement)) == std::string::npos) wanted.options.stop.push_back(stop);
    }
    wanted.options.stop.push_back("abc never");
    const Expected expected = plain_output(pieces_, whole, wanted.options.stop);
    expect(wanted, whole, expected.tokens, expected.stopped ? FinishReason::kStop : FinishReason::kLength,
           expected.text, expected.pieces);
    if (HasFatalFailure()) FAIL() << "trial " << trial;
    stopped += expected.stopped;
    first += expected.tokens == 1;
  }
  EXPECT_GT(stopped, 30);
  EXPECT_GT(first, 2);
}

TEST_F(Ends, TheNumberOfTokensEndsATextInsideAStopAndInsideACharacter) {
  for (uint64_t trial = 0; trial < 12; ++trial) {
    GenerateRequest wanted = request(100 + trial);
    const std::vector<int32_t> whole = run(wanted).result.tokens;
    for (const int64_t tokens : {0, 1, 2, 3, 7, 8, 9, 20}) {
      const std::vector<int32_t> taken(whole.begin(), whole.begin() + tokens);
      wanted.options.max_tokens = tokens;
      // The text's own end, and more: held back until it is certain that no more comes.
      const std::string text = plain_output(pieces_, taken, {}).text;
      wanted.options.stop = {text.substr(text.size() - std::min<size_t>(text.size(), 2)) + "zz"};
      if (utf8_error(wanted.options.stop[0]) != std::string::npos) wanted.options.stop = {"abzz", "bazz"};
      const Expected expected = plain_output(pieces_, taken, wanted.options.stop);
      ASSERT_FALSE(expected.stopped);
      expect(wanted, whole, static_cast<size_t>(tokens), FinishReason::kLength, text, expected.pieces);
      if (HasFatalFailure()) FAIL() << "trial " << trial << ", " << tokens << " tokens";
      // The same by the number of positions.
      GenerateRequest bounded = wanted;
      bounded.options.max_tokens = 40;
      bounded.options.max_context = static_cast<int64_t>(bounded.prompt.size()) + tokens;
      expect(bounded, whole, static_cast<size_t>(tokens), FinishReason::kLength, text, expected.pieces);
      if (HasFatalFailure()) FAIL() << "trial " << trial << ", " << tokens << " tokens by context";
    }
  }
}

TEST_F(Ends, EndIdsEndATextAtTheirFirstAndAreIgnoredWhereAskedFor) {
  for (uint64_t trial = 0; trial < 20; ++trial) {
    GenerateRequest wanted = request(200 + trial);
    const std::vector<int32_t> whole = run(wanted).result.tokens;
    const size_t at = trial % 4 == 0 ? 0 : trial % 4 == 1 ? whole.size() - 1 : 5 + trial;
    std::vector<int32_t>& ends = wanted.options.end_ids;
    ends = {whole[at], whole[std::min(whole.size() - 1, at + 4)], 1 << 20};
    std::rotate(ends.begin(), ends.begin() + static_cast<int64_t>(trial % 3), ends.end());  // wherever it is listed
    size_t tokens = 1;
    while (std::find(ends.begin(), ends.end(), whole[tokens - 1]) == ends.end()) ++tokens;
    const Expected expected = plain_output(pieces_, {whole.begin(), whole.begin() + tokens}, {});
    expect(wanted, whole, tokens, FinishReason::kStop, expected.text, expected.pieces);
    wanted.options.ignore_eos = true;
    const Expected all = plain_output(pieces_, whole, {});
    expect(wanted, whole, whole.size(), FinishReason::kLength, all.text, all.pieces);
    if (HasFatalFailure()) FAIL() << "trial " << trial;
  }
}

// A special token that ends a text is a token of the output and no part of its text.
TEST_F(Ends, ASpecialEndIsNoText) {
  GenerateRequest wanted = request(300);
  const std::vector<int32_t> whole = run(wanted).result.tokens;
  const int32_t end = whole[10];
  const size_t tokens = static_cast<size_t>(std::find(whole.begin(), whole.end(), end) - whole.begin()) + 1;
  wanted.options.end_ids = {end};
  tokenizer_ = ListedTokenizer(pieces_, {end});
  const Expected expected = plain_output(pieces_, {whole.begin(), whole.begin() + tokens - 1}, {});
  expect(wanted, whole, tokens, FinishReason::kStop, expected.text, expected.pieces);
}

// A space of no meaning is dropped where the output begins the text: behind special tokens alone, in prompt and
// history.
TEST_F(Ends, OutputsThatBeginATextDropThePrefixSpace) {
  std::fill(pieces_.begin(), pieces_.end(), " a");
  tokenizer_ = ListedTokenizer(pieces_, {0, 1}, true);
  GenerateRequest wanted = request(400);
  wanted.options.max_tokens = 1;
  wanted.options.sampler = {.temperature = 1.0, .seed = 1};
  const auto text_after = [&](std::vector<int32_t> history, std::vector<int32_t> prompt) {
    wanted.history = std::move(history);
    wanted.prompt = std::move(prompt);
    Streamed streamed = run(wanted);
    EXPECT_GT(streamed.result.tokens[0], 1);
    return streamed.result.text;
  };
  EXPECT_EQ(text_after({}, {0, 1}), "a");
  EXPECT_EQ(text_after({1}, {0}), "a");
  EXPECT_EQ(text_after({}, {0, 5}), " a");
  EXPECT_EQ(text_after({}, {5, 0}), " a");
  EXPECT_EQ(text_after({5}, {0}), " a");
}

TEST_F(Ends, ACancelledTextIsWhatWasShown) {
  GenerateRequest wanted = request(500);
  const Streamed whole = run(wanted);
  std::atomic<bool> cancelled = false;
  std::vector<std::string> pieces;
  wanted.options.stop = {"never comes"};
  wanted.on_text = [&](std::string_view text) {
    pieces.emplace_back(text);
    cancelled = pieces.size() == 4;
  };
  const GenerateResult result = Generator(*model_, &tokenizer_, workspace_).generate(wanted, &cancelled);
  EXPECT_EQ(result.finish_reason, FinishReason::kCancelled);
  EXPECT_EQ(joined(pieces), result.text);
  EXPECT_LT(result.tokens.size(), whole.result.tokens.size());
  EXPECT_TRUE(std::equal(result.tokens.begin(), result.tokens.end(), whole.result.tokens.begin()));
}

TEST_F(Ends, RefusesRequestsOutOfRange) {
  GenerateRequest wanted = request(600);
  const auto refused = [&](auto change) {
    GenerateRequest changed = wanted;
    change(changed);
    EXPECT_THROW(run(changed), InvalidArgument);
  };
  refused([](GenerateRequest& r) { r.prompt.clear(); });
  refused([](GenerateRequest& r) { r.options.max_tokens = -1; });
  refused([](GenerateRequest& r) { r.options.max_context = -1; });
  refused([](GenerateRequest& r) { r.options.max_context = static_cast<int64_t>(r.prompt.size()) - 1; });
  refused([](GenerateRequest& r) { r.options.stop = {""}; });
  refused([](GenerateRequest& r) { r.options.sampler.top_p = 0; });
  wanted.options.max_context = static_cast<int64_t>(wanted.prompt.size());
  EXPECT_EQ(run(wanted).result.tokens.size(), 0u);
}

}  // namespace
}  // namespace espalier
