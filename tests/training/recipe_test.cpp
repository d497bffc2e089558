#include "training/recipe.h"

#include <algorithm>

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <set>

#include "core/error.h"
#include "core/file.h"
#include "support/tiny_run_train.h"
#include "training/text_rows.h"

namespace espalier {
namespace {

using testing::TemporaryFolder;

Recipe read(const std::string& text) {
  const TemporaryFolder folder;
  write_file(folder.path() / "r.toml", text);
  Recipe recipe;
  read_recipe(folder.path() / "r.toml", recipe);
  return recipe;
}

TEST(Recipe, ReadsEveryKey) {
  const Recipe recipe = read(
      "attention = \"augmented(group=64)\"\ncontext = 512\nbatch_tokens = 2048\ntrained = \"full\"\nlora_rank = 3\n"
      "lora_rank_mlp = 5\nlora_scale = 1\nloss = \"ce\"\nheld_out_rows = 9\nevaluate_tokens = 77\n"
      "checkpoint_seconds = 5\nseed = 8\n"
      "[transfer]\ntokens = 10\nfeature_rate = 0.5\nweight_rate = 0\nwarmup_steps = 2\ncosine = true\nclip = 3\n"
      "[distill]\ntokens = 20\n");
  EXPECT_EQ(recipe.attention, "augmented(group=64)");
  EXPECT_EQ(recipe.context, 512);
  EXPECT_EQ(recipe.batch_tokens, 2048);
  EXPECT_EQ(recipe.trained, Trained::kFull);
  EXPECT_EQ(recipe.lora_rank, 3);
  EXPECT_EQ(recipe.lora_rank_mlp, 5);
  EXPECT_EQ(recipe.lora_scale, 1.0);
  EXPECT_EQ(recipe.loss, DistillLoss::kCrossEntropy);
  EXPECT_EQ(recipe.held_out_rows, 9);
  EXPECT_EQ(recipe.evaluate_tokens, 77);
  EXPECT_EQ(recipe.checkpoint_seconds, 5);
  EXPECT_EQ(recipe.seed, 8u);
  EXPECT_EQ(recipe.transfer.tokens, 10);
  EXPECT_EQ(recipe.transfer.rates.feature, 0.5);
  EXPECT_EQ(recipe.transfer.rates.weight, 0.0);
  EXPECT_EQ(recipe.transfer.warmup_steps, 2);
  EXPECT_TRUE(recipe.transfer.cosine);
  EXPECT_EQ(recipe.transfer.clip, 3.0);
  EXPECT_EQ(recipe.distill.tokens, 20);
  EXPECT_EQ(recipe.distill.rates.feature, Recipe().distill.rates.feature);  // what is not named stays
}

TEST(Recipe, RefusesWhatItDoesNotKnow) {
  for (const char* text : {"atention = \"softmax\"", "context = \"much\"", "[transfer]\ntoken = 3", "transfer = 3",
                           "loss = \"mse\"", "trained = \"some\"", "context = ", "[distill]\nclip = \"x\""}) {
    EXPECT_THROW(read(text), InvalidArgument) << text;
  }
}

TEST(Recipe, ChecksRanges) {
  const ModelConfig config{.max_position_embeddings = 512};
  Recipe good;
  good.context = 512;
  good.batch_tokens = 512;
  check_recipe(good, config);
  const auto refused = [&](auto&& change) {
    Recipe recipe = good;
    change(recipe);
    EXPECT_THROW(check_recipe(recipe, config), InvalidArgument);
  };
  refused([](Recipe& r) { r.context = 513; });
  refused([](Recipe& r) { r.batch_tokens = 511; });
  refused([](Recipe& r) { r.lora_rank = -1; });
  refused([](Recipe& r) { r.held_out_rows = 0; });
  refused([](Recipe& r) { r.transfer.tokens = -1; });
  refused([](Recipe& r) { r.distill.rates.weight = -1e-3; });
  refused([](Recipe& r) { r.distill.rates.feature = std::numeric_limits<double>::quiet_NaN(); });
}

// Every range to its ends, and a step beyond them, by the name of the key.
TEST(Recipe, EveryRangeEndsWhereItSays) {
  const ModelConfig config{.max_position_embeddings = 512};
  Recipe good;
  good.context = 512;
  good.batch_tokens = 1024;
  struct Range {
    std::string key;
    std::function<void(Recipe&, double)> set;
    double low, high, step;
  };
  const auto whole = [](auto field) { return [field](Recipe& r, double x) { field(r) = static_cast<int64_t>(x); }; };
  const auto number = [](auto field) { return [field](Recipe& r, double x) { field(r) = x; }; };
  std::vector<Range> ranges = {
      {"context", whole([](Recipe& r) -> int64_t& { return r.context; }), 8, 512, 1},
      {"batch_tokens", whole([](Recipe& r) -> int64_t& { return r.batch_tokens; }), 512, 1 << 24, 1},
      {"lora_rank", whole([](Recipe& r) -> int64_t& { return r.lora_rank; }), 0, 4096, 1},
      {"lora_rank_mlp", whole([](Recipe& r) -> int64_t& { return r.lora_rank_mlp; }), 0, 4096, 1},
      {"lora_scale", number([](Recipe& r) -> double& { return r.lora_scale; }), 1e-6, 1e6, 1e-7},
      {"held_out_rows", whole([](Recipe& r) -> int64_t& { return r.held_out_rows; }), 1, 1 << 20, 1},
      {"evaluate_tokens", whole([](Recipe& r) -> int64_t& { return r.evaluate_tokens; }), 0, 1e12, 1},
      {"checkpoint_seconds", whole([](Recipe& r) -> int64_t& { return r.checkpoint_seconds; }), 0, 1e9, 1}};
  for (const bool transfer : {true, false}) {
    const auto stage = [transfer](Recipe& r) -> Stage& { return transfer ? r.transfer : r.distill; };
    const auto key = [&](const char* name) { return (transfer ? "transfer." : "distill.") + std::string(name); };
    ranges.push_back({key("tokens"), whole([=](Recipe& r) -> int64_t& { return stage(r).tokens; }), 0, 1e12, 1});
    ranges.push_back(
        {key("warmup_steps"), whole([=](Recipe& r) -> int64_t& { return stage(r).warmup_steps; }), 0, 1e9, 1});
    ranges.push_back(
        {key("feature_rate"), number([=](Recipe& r) -> double& { return stage(r).rates.feature; }), 0, 10, 1e-9});
    ranges.push_back(
        {key("weight_rate"), number([=](Recipe& r) -> double& { return stage(r).rates.weight; }), 0, 10, 1e-9});
    ranges.push_back({key("clip"), number([=](Recipe& r) -> double& { return stage(r).clip; }), 0, 1e9, 1e-3});
  }
  for (const Range& range : ranges) {
    for (const auto& [value, fits] : {std::pair{range.low, true},
                                      {range.high, true},
                                      {range.low - range.step, false},
                                      {range.high + range.step, false}}) {
      Recipe recipe = good;
      range.set(recipe, value);
      try {
        check_recipe(recipe, config);
        EXPECT_TRUE(fits) << range.key << " " << value;
      } catch (const InvalidArgument& error) {
        EXPECT_FALSE(fits) << error.what();
        EXPECT_NE(std::string(error.what()).find("recipe: " + range.key + "]"), std::string::npos) << error.what();
      }
    }
  }
}

// Everything that decides the result, changed alone and a little.
TEST(Recipe, TextTellsRecipesApart) {
  std::set<std::string> texts = {recipe_text(Recipe())};
  const auto differs = [&](auto&& change) {
    Recipe recipe;
    change(recipe);
    EXPECT_TRUE(texts.insert(recipe_text(recipe)).second) << recipe_text(recipe);
  };
  constexpr double kLittle = 1 + 1e-12;
  differs([](Recipe& r) { r.attention = "lolcats(group=8)"; });
  differs([](Recipe& r) { ++r.context; });
  differs([](Recipe& r) { ++r.batch_tokens; });
  differs([](Recipe& r) { r.trained = Trained::kFull; });
  differs([](Recipe& r) { r.trained = Trained::kAttention; });
  differs([](Recipe& r) { ++r.lora_rank; });
  differs([](Recipe& r) { ++r.lora_rank_mlp; });
  differs([](Recipe& r) { r.lora_scale *= kLittle; });
  differs([](Recipe& r) { r.loss = DistillLoss::kCrossEntropy; });
  differs([](Recipe& r) { r.loss = DistillLoss::kHidden; });
  differs([](Recipe& r) { ++r.held_out_rows; });
  differs([](Recipe& r) { ++r.seed; });
  for (const bool transfer : {true, false}) {
    const auto stage = [&](auto&& change) { differs([&](Recipe& r) { change(transfer ? r.transfer : r.distill); }); };
    stage([](Stage& s) { ++s.tokens; });
    stage([](Stage& s) { s.rates.feature *= kLittle; });
    stage([](Stage& s) { s.rates.weight *= kLittle; });
    stage([](Stage& s) { ++s.warmup_steps; });
    stage([](Stage& s) { s.cosine = !s.cosine; });
    stage([](Stage& s) { s.clip += 1e-9; });
  }
  Recipe same;
  same.checkpoint_seconds = 1;  // decides no result
  same.evaluate_tokens = 1;
  EXPECT_EQ(recipe_text(Recipe()), recipe_text(same));
}

TEST(TextRows, CutsOneStreamAndShufflesItAnewEachEpoch) {
  const TemporaryFolder folder;
  const testing::ByteTokenizer tokenizer(256);
  write_file(folder.path() / "a.txt", "0123456789");
  write_file(folder.path() / "b.txt", "abcdefghijk");
  const TextRows rows(tokenizer, {folder.path() / "a.txt", folder.path() / "b.txt"}, 1,
                      {.context = 4, .end_id = 200, .seed = 1});
  // 10 + end + 11 = 22 ids: five rows, the one in the middle kept apart.
  EXPECT_EQ(rows.training_rows(), 4);
  const auto text = [](const at::Tensor& batch) {
    std::vector<std::string> result;
    for (int64_t r = 0; r < batch.size(0); ++r) {
      std::string row;
      for (int64_t i = 0; i < batch.size(1); ++i) {
        const int64_t id = batch.const_data_ptr<int64_t>()[r * batch.size(1) + i];
        row += id == 200 ? '|' : static_cast<char>(id);
      }
      result.push_back(row);
    }
    return result;
  };
  EXPECT_EQ(text(rows.held_out()), std::vector<std::string>{"89|a"});
  std::vector<std::string> first = text(rows.rows(0, 4)), second = text(rows.rows(4, 4));
  EXPECT_EQ(text(rows.rows(3, 2)), (std::vector<std::string>{first[3], second[0]}));
  EXPECT_NE(first, second);
  std::sort(first.begin(), first.end());
  std::sort(second.begin(), second.end());
  EXPECT_EQ(first, (std::vector<std::string>{"0123", "4567", "bcde", "fghi"}));
  EXPECT_EQ(first, second);
}

// Of every number of rows: training and held-out rows are all there are, each once, the held-out in even steps.
TEST(TextRows, HeldOutRowsAreNeverTrainedOn) {
  const TemporaryFolder folder;
  const testing::ByteTokenizer tokenizer(256);
  for (int64_t rows = 2; rows < 30; rows += 3) {
    std::string text;
    for (int64_t i = 0; i < rows * 4 + 3; ++i) text += static_cast<char>(i / 4);  // row i holds i four times
    write_file(folder.path() / "a.txt", text);
    for (const int64_t held_out : {int64_t{0}, int64_t{1}, int64_t{2}, int64_t{5}, rows - 1}) {
      const std::vector<std::filesystem::path> files = {folder.path() / "a.txt"};
      if (held_out >= rows) {
        EXPECT_THROW(TextRows(tokenizer, files, held_out, {.context = 4}), InvalidArgument);
        continue;
      }
      const TextRows data(tokenizer, files, held_out, {.context = 4, .seed = 7});
      const auto numbers = [](const at::Tensor& batch) {
        std::vector<int64_t> result;
        for (int64_t r = 0; r < batch.size(0); ++r) result.push_back(batch.const_data_ptr<int64_t>()[4 * r]);
        return result;
      };
      const std::vector<int64_t> kept = numbers(data.held_out());
      ASSERT_EQ(std::ssize(kept), held_out);
      for (int64_t i = 0; i < held_out; ++i) {
        EXPECT_EQ(kept[static_cast<size_t>(i)], (2 * i + 1) * rows / (2 * held_out));
      }
      EXPECT_EQ(data.training_rows(), rows - held_out);
      std::set<int64_t> all(kept.begin(), kept.end());
      for (const int64_t row : numbers(data.rows(0, 3 * rows))) {  // several epochs
        EXPECT_EQ(std::count(kept.begin(), kept.end(), row), 0) << row;
        all.insert(row);
      }
      EXPECT_EQ(std::ssize(all), rows);
      EXPECT_EQ(*all.rbegin(), rows - 1);  // what is left of a row is none
      for (const int64_t row : numbers(data.spread(3))) EXPECT_EQ(std::count(kept.begin(), kept.end(), row), 0);
    }
  }
}

TEST(TextRows, FingerprintsTellDataApart) {
  const TemporaryFolder folder;
  const testing::ByteTokenizer tokenizer(256);
  write_file(folder.path() / "a.txt", "0123456789");
  write_file(folder.path() / "b.txt", "abcdefghij");
  write_file(folder.path() / "c.txt", "0123456788");
  std::set<std::string> prints;
  const auto add = [&](std::vector<std::string> names, int32_t end) {
    std::vector<std::filesystem::path> files;
    for (const std::string& name : names) files.push_back(folder.path() / name);
    return prints.insert(TextRows(tokenizer, files, 0, {.context = 4, .end_id = end}).fingerprint()).second;
  };
  EXPECT_TRUE(add({"a.txt"}, -1));
  EXPECT_TRUE(add({"b.txt"}, -1));
  EXPECT_TRUE(add({"c.txt"}, -1));  // its last byte is another
  EXPECT_TRUE(add({"a.txt", "b.txt"}, -1));
  EXPECT_TRUE(add({"b.txt", "a.txt"}, -1));
  EXPECT_TRUE(add({"a.txt", "b.txt"}, 3));
  EXPECT_TRUE(add({"a.txt", "b.txt"}, 4));
  EXPECT_FALSE(add({"a.txt"}, 3));  // nothing to stand between
}

TEST(TextRows, StandBetweenWhatAnEncoderPutsAroundAText) {
  const TemporaryFolder folder;
  const testing::ByteTokenizer tokenizer(256);
  write_file(folder.path() / "a.txt", "01234567");
  const TextRows rows(tokenizer, {folder.path() / "a.txt"}, 0, {.context = 5, .row_begin = 201, .row_end = 202});
  EXPECT_EQ(rows.training_rows(), 2);
  const at::Tensor batch = rows.spread(2);
  const int64_t* ids = batch.const_data_ptr<int64_t>();
  EXPECT_EQ(std::vector<int64_t>(ids, ids + 10),
            (std::vector<int64_t>{201, '0', '1', '2', 202, 201, '3', '4', '5', 202}));
}

}  // namespace
}  // namespace espalier
