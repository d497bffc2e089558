#include "training/recipe.h"

#include <algorithm>

#include <gtest/gtest.h>

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

TEST(Recipe, TextTellsRecipesApart) {
  Recipe changed;
  changed.distill.rates.weight *= 1.001;
  EXPECT_NE(recipe_text(Recipe()), recipe_text(changed));
  changed = Recipe();
  changed.checkpoint_seconds = 1;  // decides no result
  EXPECT_EQ(recipe_text(Recipe()), recipe_text(changed));
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
