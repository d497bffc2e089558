// Drafters that read the text with a model or a head, and tables: step after step they guess what a fresh one would.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/file.h"
#include "decoding/drafters/draft_head.h"
#include "decoding/drafters/model_drafter.h"
#include "decoding/drafters/ngram_table.h"
#include "decoding/generate.h"
#include "decoding/ngram_build.h"
#include "support/random_head.h"
#include "support/tiny_model.h"

namespace espalier {
namespace {

using Tokens = std::vector<int32_t>;

// The tokens of probability 0.03 or more after `text`, likeliest first, four at most: in plain f64 loops.
std::vector<std::pair<int32_t, double>> plain_guesses(const Model& model, const Tokens& text) {
  Workspace workspace(1);
  SequenceState state = model.new_state();
  std::vector<float> logits;
  model.prefill(state, text, workspace, nullptr, &logits);
  double sum = 0;
  for (const float logit : logits) sum += std::exp(double{logit});
  std::vector<std::pair<int32_t, double>> all;
  for (size_t i = 0; i < logits.size(); ++i) {
    all.push_back({static_cast<int32_t>(i), std::exp(double{logits[i]}) / sum});
  }
  std::stable_sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
  std::vector<std::pair<int32_t, double>> guesses;
  for (const auto& guess : all) {
    if (guess.second >= 0.03 && guesses.size() < 4) guesses.push_back(guess);
  }
  return guesses;
}

void expect_guesses(Drafter& drafter, DraftCursor cursor, const std::vector<std::pair<int32_t, double>>& expected) {
  std::vector<DraftChild> got;
  drafter.children(cursor, 1.0, got);
  ASSERT_EQ(got.size(), expected.size());
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT_EQ(got[i].token, expected[i].first);
    EXPECT_NEAR(got[i].score, expected[i].second, 1e-4);
  }
}

// The text grows by one to five tokens between trees; the paths that were looked at leave nothing behind.
TEST(ModelDrafter, GuessesFromTheWholeTextAndThePathAlone) {
  for (const char* attention : {"softmax", "lolcats(group=8)"}) {
    const auto model = testing::load_tiny_model({.attention = {attention}});
    ModelDrafter drafter(*model, 1);
    Random random(4);
    size_t compared = 0;
    for (int text_number = 0; text_number < 2; ++text_number) {
      drafter.reset();
      Tokens text;
      for (int step = 0; step < 12; ++step) {
        const int64_t more = 1 + random.below(5);
        for (int64_t i = 0; i < more; ++i) {
          text.push_back(static_cast<int32_t>(random.below(97)));
          drafter.observe(text.back());
        }
        const DraftCursor root = drafter.root();
        const auto expected = plain_guesses(*model, text);
        compared += expected.size();
        expect_guesses(drafter, root, expected);
        DraftCursor first = root, second = drafter.advance(root, 5);
        Tokens first_text = text, second_text = text;
        second_text.push_back(5);
        for (const int32_t token : {7, 60, 7}) {  // two branches in turn
          first = drafter.advance(first, token);
          first_text.push_back(token);
          expect_guesses(drafter, first, plain_guesses(*model, first_text));
          expect_guesses(drafter, second, plain_guesses(*model, second_text));
        }
        expect_guesses(drafter, root, expected);
        std::vector<DraftChild> none;
        drafter.children(root, 0.1, none);  // hardly reached: not worth a step
        EXPECT_TRUE(none.empty());
      }
    }
    EXPECT_GT(compared, 20u) << attention;
  }
}

// From each root on its guesses come from the newest state and token.
TEST(HeadDrafter, BeginsAnewAtEveryRoot) {
  const auto model = testing::load_tiny_model({});
  const testing::RandomHead random_head(model->config(), 16, 3);
  const DraftHead head(random_head.info, random_head.tensors, *model, WeightType::kF32);
  Workspace workspace(1);
  Arena scratch;
  HeadDrafter drafter(head, workspace);
  Random random(6);
  const auto d = static_cast<size_t>(head.hidden_size());
  const auto expect = [&](DraftCursor cursor, const std::vector<float>& state) {
    std::vector<DraftChild> got, expected;
    drafter.children(cursor, 1.0, got);
    head.guess(state.data(), 4, 0.03, workspace.pool, scratch, expected);
    ASSERT_EQ(got.size(), expected.size());
    for (size_t i = 0; i < got.size(); ++i) {
      EXPECT_EQ(got[i].token, expected[i].token);
      EXPECT_EQ(got[i].score, expected[i].score);
    }
  };
  for (int step = 0; step < 20; ++step) {
    std::vector<float> hidden(d), root(d), next(d), other(d);
    for (float& x : hidden) x = random.normal();
    int32_t token = 0;
    for (int64_t i = 0; i <= random.below(3); ++i) {
      token = static_cast<int32_t>(random.below(97));
      drafter.observe(token);
    }
    drafter.see(hidden.data());
    const DraftCursor at_root = drafter.root();
    head.advance(hidden.data(), token, workspace.pool, scratch, root.data());
    head.advance(root.data(), 11, workspace.pool, scratch, next.data());
    head.advance(root.data(), 12, workspace.pool, scratch, other.data());
    const DraftCursor at_next = drafter.advance(at_root, 11), at_other = drafter.advance(at_root, 12);
    expect(at_other, other);  // before its parent was asked
    expect(at_root, root);
    expect(at_next, next);
    EXPECT_EQ(drafter.root().value, at_root.value);  // and again
  }
}

// A directory with one wrong field or tensor at a time.
TEST(DraftHeadFiles, OneWrongThingIsRefusedByItsName) {
  namespace fs = std::filesystem;
  using Json = nlohmann::json;
  std::string name = (fs::temp_directory_path() / "espalier-head-XXXXXX").string();
  const fs::path folder = mkdtemp(name.data());
  const ModelFiles files = testing::make_tiny_model({});
  const auto model = load_model(files, {});
  const testing::RandomHead random_head(model->config(), 16, 3);
  std::vector<std::vector<float>> values;
  std::vector<TensorToWrite> tensors;
  for (const std::string& tensor : random_head.tensors.names()) {
    const std::vector<int64_t>& shape = random_head.tensors.find(tensor)->shape;
    values.push_back(random_head.tensors.read_checked(tensor, shape));
    tensors.push_back({tensor, shape, values.back().data()});
  }
  const auto write = [&](const DraftHeadInfo& info, const std::vector<TensorToWrite>& all) {
    write_draft_head(folder, info, all);
  };
  DraftHeadInfo info = random_head.info;
  info.base_sha256 = base_hash(files);
  info.base_name = "tiny";
  write(info, tensors);
  EXPECT_EQ(DraftHead::load(folder, files, *model).tokens(), info.tokens);
  const auto refused = [&]<class Kind>(const std::string& part) {
    try {
      DraftHead::load(folder, files, *model);
      ADD_FAILURE() << "accepted: " << part;
    } catch (const Kind& error) {
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << part << ": " << error.what();
    }
  };
  const auto corrupt = [&](const std::string& part) { refused.operator()<CorruptFile>(part); };
  const auto invalid = [&](const std::string& part) { refused.operator()<InvalidArgument>(part); };

  const Json good = Json::parse(read_text_file(folder / "draft_head.json"));
  const auto with = [&](const char* key, const Json& value) {
    Json json = good;
    json[key] = value;
    write_file(folder / "draft_head.json", json.dump());
  };
  with("base_sha256", std::string(64, '0'));
  invalid(std::string(12, '0'));
  invalid(info.base_sha256.substr(0, 12));  // both are named
  invalid("draft head " + folder.string());
  with("base_sha256", 3);
  corrupt("draft_head.json: fields");
  with("format", "espalier-draft-head-2");
  corrupt("draft_head.json: format");
  with("tokens", "many");
  corrupt("draft_head.json: tokens");
  for (const Json& token :
       {Json(-1), Json(1.5), Json("1"), Json(Json::array({1})), Json(1ll << 40), Json((1 << 30) + 1)}) {
    with("tokens", Json::array({2, token}));
    corrupt("draft_head.json: tokens");
  }
  for (const Json& tokens : {Json::array(), Json::array({2, 2}), Json::array({2, 97})}) {
    with("tokens", tokens);
    corrupt("draft_head.safetensors: tokens");
  }
  with("tokens", Json::array({0, 96}));
  EXPECT_EQ(DraftHead::load(folder, files, *model).tokens(), (Tokens{0, 96}));
  for (const char* key : {"format", "base_sha256", "tokens"}) {
    Json json = good;
    json.erase(key);
    write_file(folder / "draft_head.json", json.dump());
    corrupt(std::string("draft_head.json: ") + (std::string(key) == "format" ? "format" : "fields"));
  }
  fs::remove(folder / "draft_head.json");
  invalid("draft_head.json");
  for (size_t i = 0; i < tensors.size(); ++i) {
    std::vector<TensorToWrite> fewer = tensors;
    fewer.erase(fewer.begin() + static_cast<int64_t>(i));
    write(info, fewer);
    corrupt("tensor " + tensors[i].name);
    for (size_t axis = 0; axis < tensors[i].shape.size(); ++axis) {
      if (tensors[i].name == "in" && axis == 0) continue;  // the width is its own
      std::vector<TensorToWrite> changed = tensors;
      --changed[i].shape[axis];
      write(info, changed);
      corrupt("tensor " + tensors[i].name);
    }
  }
  write(info, tensors);
  EXPECT_NO_THROW(DraftHead::load(folder, files, *model));
  fs::remove_all(folder);
}

TEST(Ngram, ATableOfAModelsOwnTextsDraftsThem) {
  const auto model = testing::load_tiny_model({});
  Workspace workspace(1);
  NgramTableBuilder builder(97, std::string(64, 'a'));
  std::vector<GenerateRequest> requests;
  for (uint64_t i = 0; i < 8; ++i) {
    GenerateRequest request{.prompt = testing::random_tokens(4, 97, i)};
    request.options.max_tokens = 24;
    requests.push_back(request);
    Tokens text = request.prompt;
    const GenerateResult result = Generator(*model, nullptr, workspace).generate(request);
    text.insert(text.end(), result.tokens.begin(), result.tokens.end());
    for (int times = 0; times < 3; ++times) builder.add(text, request.prompt.size());
  }
  const NgramTable table = builder.build(1 << 20);
  double with_table = 0, without = 0;
  for (GenerateRequest& request : requests) {
    request.options.speculation = {.mode = SpeculationMode::kNgram, .tree_nodes = 8};
    with_table += Generator(*model, nullptr, workspace, {.table = &table}).generate(request).stats.tokens_per_step / 8;
    without += Generator(*model, nullptr, workspace).generate(request).stats.tokens_per_step / 8;
  }
  EXPECT_GT(with_table, 3.0);
  EXPECT_GT(with_table, 1.2 * without);
}

// build_ngram_table: what the model wrote counts, what it was asked does not.
TEST(Ngram, TablesAreMadeOfWhatTheModelWrites) {
  class Names : public Tokenizer {
   public:
    using Tokenizer::encode;
    Tokens encode(std::span<const Part>, bool) const override { return {}; }
    std::string decode(std::span<const int32_t>, bool) const override { return ""; }
    std::string_view bytes(int32_t) const override { return "x"; }
    int64_t vocab_size() const override { return 97; }
    bool is_special(int32_t) const override { return false; }
    int32_t special_id(std::string_view) const override { return -1; }
  };
  const auto model = testing::load_tiny_model({});
  Workspace workspace(1);
  const Names tokenizer;
  std::vector<Tokens> prompts;
  for (uint64_t i = 0; i < 5; ++i) prompts.push_back(testing::random_tokens(6, 97, i));
  const NgramBuildOptions options{.texts = {.tokens = 200, .tokens_per_prompt = 20, .batch = 2}};
  const NgramTable table = build_ngram_table(*model, tokenizer, workspace, prompts, options);
  NgramTableBuilder builder(97, vocabulary_hash(tokenizer));
  int64_t written = 0;
  write_self_texts(*model, workspace, prompts, options.texts, [&](const SelfText& text) {
    builder.add(text.tokens, text.written);
    written += std::ssize(text.tokens) - static_cast<int64_t>(text.written);
  });
  EXPECT_GE(written, 200);
  EXPECT_EQ(table.serialize(), builder.build(options.max_bytes).serialize());
  EXPECT_EQ(table.vocabulary(), vocabulary_hash(tokenizer));
  // No context of the prompts alone.
  const std::span<const int32_t> first = prompts[0];
  EXPECT_TRUE(table.find(NgramTable::context_key(first.first(3))).empty());
}

}  // namespace
}  // namespace espalier
