// Whole linearizations of a tiny model: they learn, they survive a kill, and what they write is what was trained.
#include "training/linearize.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>
#include <csignal>
#include <fstream>
#include <nlohmann/json.hpp>

#include "checkpoint/adapter.h"
#include "core/error.h"
#include "core/file.h"
#include "support/tiny_model.h"
#include "support/tiny_run_train.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;
using testing::TemporaryFolder;

const testing::ByteTokenizer kTokenizer(97);

LinearizeOptions options_of(const fs::path& folder, const Recipe& recipe, const std::string& out) {
  if (!fs::exists(folder / "text.txt")) testing::write_text(folder / "text.txt", 4000, 1);
  LinearizeOptions options;
  options.model_name = "tiny";
  options.out = folder / out;
  options.data = {folder / "text.txt"};
  options.recipe = recipe;
  options.command = "a test";
  return options;
}

// The lines of metrics.jsonl without what a clock decides.
std::vector<std::string> metrics(const fs::path& out) {
  std::vector<std::string> lines;
  std::ifstream file(out / "metrics.jsonl");
  for (std::string line; std::getline(file, line);) {
    nlohmann::json json = nlohmann::json::parse(line);
    json.erase("seconds");
    lines.push_back(json.dump());
  }
  return lines;
}

// Mean loss of a stage's first or last `steps` steps.
double mean_loss(const std::vector<std::string>& lines, const std::string& stage, size_t steps, bool last) {
  std::vector<double> losses;
  for (const std::string& line : lines) {
    const nlohmann::json json = nlohmann::json::parse(line);
    if (json["stage"] == stage) losses.push_back(json["loss"].get<double>());
  }
  double sum = 0.0;
  for (size_t i = 0; i < steps; ++i) sum += losses[last ? losses.size() - 1 - i : i];
  return sum / static_cast<double>(steps);
}

// Perplexity by the step half, of the base under the adapter.
double served_perplexity(const fs::path& adapter, const std::vector<int32_t>& tokens) {
  ModelFiles files = testing::make_tiny_model({});
  apply_adapter(files, adapter);
  const auto model = load_model(files, {.weights = WeightType::kF32});
  Workspace workspace(1);
  SequenceState state = model->new_state();
  double nll = 0.0;
  model->prefill(
      state, tokens, workspace,
      [&](int64_t index, const float* logits) {
        if (index + 1 == static_cast<int64_t>(tokens.size())) return;
        double sum = 0.0;
        for (int64_t i = 0; i < 97; ++i) sum += std::exp(double{logits[i]});
        nll += std::log(sum) - logits[tokens[static_cast<size_t>(index) + 1]];
      },
      nullptr);
  return std::exp(nll / static_cast<double>(tokens.size() - 1));
}

TEST(Linearize, LearnsAndWritesWhatWasTrained) {
  for (const Trained trained : {Trained::kAttention, Trained::kLora, Trained::kFull}) {
    const TemporaryFolder folder;
    Recipe recipe = testing::tiny_recipe("lolcats(group=8,taps=4)");
    recipe.trained = trained;
    recipe.transfer.tokens = 96 * 20;
    recipe.distill.tokens = 96 * 20;
    recipe.held_out_rows = 1;
    testing::write_text(folder.path() / "held_out.txt", 48, 9);
    testing::write_text(folder.path() / "text.txt", 48 * 4, 1);  // two steps are an epoch: the same rows come again
    LinearizeOptions options = options_of(folder.path(), recipe, "run");
    options.held_out = {folder.path() / "held_out.txt"};
    const LinearizeResult result = linearize(testing::make_tiny_model({}), kTokenizer, options);
    EXPECT_TRUE(result.finished);
    EXPECT_EQ(result.tokens, 96 * 40);
    const std::vector<std::string> lines = metrics(options.out);
    EXPECT_EQ(lines.size(), 40u);
    EXPECT_LT(mean_loss(lines, "transfer", 2, true), 0.9 * mean_loss(lines, "transfer", 2, false));
    EXPECT_LT(mean_loss(lines, "distill", 2, true), 0.9 * mean_loss(lines, "distill", 2, false));
    // Rounding to bf16 is part of what was measured.
    const double served = served_perplexity(options.out, kTokenizer.encode(read_text_file(options.held_out[0])));
    EXPECT_NEAR(served, result.after, 1e-3 * result.after);
    EXPECT_GT(std::abs(result.after / result.before - 1.0), 1e-3);
    const AdapterInfo info = read_adapter_info(options.out);
    EXPECT_EQ(info.attention, std::vector<std::string>(2, "lolcats(group=8,taps=4)"));
    EXPECT_EQ(info.command, "a test");
  }
}

TEST(Linearize, CrossEntropyLearnsTheText) {
  const TemporaryFolder folder;
  Recipe recipe = testing::tiny_recipe("augmented(group=8,taps=4)");
  recipe.loss = DistillLoss::kCrossEntropy;
  recipe.trained = Trained::kFull;
  recipe.transfer.tokens = 0;
  recipe.distill.tokens = 96 * 30;
  const LinearizeResult result =
      linearize(testing::make_tiny_model({}), kTokenizer, options_of(folder.path(), recipe, "run"));
  EXPECT_LT(result.after, 0.7 * result.before);
}

TEST(Linearize, TeachesAnEncoderItsHiddenStates) {
  const TemporaryFolder folder;
  Recipe recipe = testing::tiny_recipe("augmented(group=8,taps=4)");
  recipe.held_out_rows = 1;
  recipe.transfer.tokens = 96 * 20;
  recipe.distill.tokens = 96 * 20;
  testing::write_text(folder.path() / "text.txt", 48 * 5, 1);
  LinearizeOptions options = options_of(folder.path(), recipe, "run");
  const ModelFiles files = testing::make_tiny_model({.family = "bert", .heads_kv = 3, .max_positions = 64});
  const LinearizeResult result = linearize(files, kTokenizer, options);
  EXPECT_EQ(result.measure, "hidden_error");
  EXPECT_EQ(result.teacher, 0.0);
  EXPECT_LT(result.after, 0.7 * result.before);

  // What the step half makes of base and adapter is as far from the base as was said.
  ModelFiles linearized = files;
  apply_adapter(linearized, options.out);
  const auto teacher = load_model(files, {.weights = WeightType::kF32});
  const auto student = load_model(linearized, {.weights = WeightType::kF32});
  const std::vector<int32_t> text = kTokenizer.encode(read_text_file(options.data[0]));
  Workspace one(1), two(1);
  const SequenceState first = teacher->new_state(), second = student->new_state();
  double error = 0.0, squares = 0.0;
  const int64_t row = static_cast<int64_t>(text.size()) / recipe.context / 2;  // the one that was kept apart
  const std::span<const int32_t> tokens =
      std::span(text).subspan(static_cast<size_t>(row * recipe.context), static_cast<size_t>(recipe.context));
  const Segment a{.state = &first, .tokens = tokens, .outputs = Output::kHidden};
  const Segment b{.state = &second, .tokens = tokens, .outputs = Output::kHidden};
  StepOutput expected, got;
  teacher->step({&a, 1}, one, expected);
  student->step({&b, 1}, two, got);
  for (int64_t r = 0; r < recipe.context; ++r) {
    for (int64_t c = 0; c < got.width(Output::kHidden); ++c) {
      const double t = expected.hidden(0, r)[c], d = got.hidden(0, r)[c] - t;
      error += d * d;
      squares += t * t;
    }
  }
  EXPECT_NEAR(error / squares, result.after, 1e-3 * result.after);

  options.out = folder.path() / "other";
  options.recipe.loss = DistillLoss::kCrossEntropy;
  EXPECT_THROW(linearize(files, kTokenizer, options), InvalidArgument);  // there is no next token
}

TEST(Linearize, ResumesToTheSameLosses) {
  at::set_num_threads(1);
  const TemporaryFolder folder;
  const Recipe recipe = testing::tiny_recipe("lolcats(group=8,taps=4)");
  const LinearizeOptions whole = options_of(folder.path(), recipe, "whole");
  const LinearizeResult expected = linearize(testing::make_tiny_model({}), kTokenizer, whole);
  for (int stop_after = 1; stop_after <= 10; ++stop_after) {  // within both stages, on their border, after the last
    LinearizeOptions parts = options_of(folder.path(), recipe, "parts" + std::to_string(stop_after));
    int steps = 0;
    parts.stop = [&] { return ++steps == stop_after; };
    EXPECT_FALSE(linearize(testing::make_tiny_model({}), kTokenizer, parts).finished);
    EXPECT_EQ(steps, stop_after);
    EXPECT_FALSE(fs::exists(parts.out / "adapter.json"));
    parts.stop = nullptr;
    parts.resume = true;
    const LinearizeResult result = linearize(testing::make_tiny_model({}), kTokenizer, parts);
    EXPECT_EQ(metrics(whole.out), metrics(parts.out)) << stop_after;
    EXPECT_EQ(result.after, expected.after);
    EXPECT_EQ(result.before, expected.before);
    EXPECT_EQ(result.tokens, expected.tokens);
    EXPECT_EQ(read_text_file(whole.out / "adapter.safetensors"), read_text_file(parts.out / "adapter.safetensors"));
  }
}

// kill -9 between two checkpoints: the steps after the last one run again, to the same losses.
TEST(LinearizeDeathTest, SurvivesAKill) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  at::set_num_threads(1);
  const fs::path folder = fs::temp_directory_path() / "espalier-kill-test";
  Recipe recipe = testing::tiny_recipe("lolcats(group=8,taps=4)");
  recipe.checkpoint_seconds = 3600;  // only the one before the first step, and the border of the stages
  const auto killed_run = [&] {
    LinearizeOptions options = options_of(folder, recipe, "run");
    int steps = 0;
    options.stop = [&] {
      if (++steps == 7) std::raise(SIGKILL);
      return false;
    };
    linearize(testing::make_tiny_model({}), kTokenizer, options);
  };
  fs::remove_all(folder);
  fs::create_directories(folder);
  EXPECT_EXIT(killed_run(), ::testing::KilledBySignal(SIGKILL), "");
  EXPECT_EQ(metrics(folder / "run").size(), 7u);
  LinearizeOptions options = options_of(folder, recipe, "run");
  options.resume = true;
  EXPECT_TRUE(linearize(testing::make_tiny_model({}), kTokenizer, options).finished);
  linearize(testing::make_tiny_model({}), kTokenizer, options_of(folder, recipe, "whole"));
  EXPECT_EQ(metrics(folder / "whole"), metrics(folder / "run"));
  fs::remove_all(folder);
}

TEST(Linearize, RefusesWhatDoesNotFit) {
  const TemporaryFolder folder;
  const Recipe recipe = testing::tiny_recipe("lolcats(group=8,taps=4)");
  LinearizeOptions options = options_of(folder.path(), recipe, "run");
  options.stop = [] { return true; };
  linearize(testing::make_tiny_model({}), kTokenizer, options);
  EXPECT_THROW(linearize(testing::make_tiny_model({}), kTokenizer, options), InvalidArgument);  // without resume
  options.resume = true;
  options.recipe.distill.rates.weight *= 2;
  EXPECT_THROW(linearize(testing::make_tiny_model({}), kTokenizer, options), InvalidArgument);  // another recipe
  options.recipe = recipe;
  testing::write_text(folder.path() / "text.txt", 4000, 2);
  EXPECT_THROW(linearize(testing::make_tiny_model({}), kTokenizer, options), InvalidArgument);  // another text
  testing::write_text(folder.path() / "text.txt", 4000, 1);
  const std::string checkpoint = read_text_file(options.out / "checkpoint.safetensors");
  write_file(options.out / "checkpoint.safetensors", std::string_view(checkpoint).substr(0, checkpoint.size() / 2));
  EXPECT_THROW(linearize(testing::make_tiny_model({}), kTokenizer, options), CorruptFile);
  options = options_of(folder.path(), recipe, "other");
  options.recipe.attention = "nonsense";
  EXPECT_THROW(linearize(testing::make_tiny_model({}), kTokenizer, options), InvalidArgument);
  options.recipe = recipe;
  options.recipe.context = 5000;  // the model has 4096 positions
  EXPECT_THROW(linearize(testing::make_tiny_model({}), kTokenizer, options), InvalidArgument);
  options.recipe = recipe;
  options.data = {folder.path() / "nothing.txt"};
  EXPECT_THROW(linearize(testing::make_tiny_model({}), kTokenizer, options), InvalidArgument);
  write_file(folder.path() / "short.txt", "a few words");
  options.data = {folder.path() / "short.txt"};
  EXPECT_THROW(linearize(testing::make_tiny_model({}), kTokenizer, options), InvalidArgument);
  EXPECT_FALSE(fs::exists(folder.path() / "other"));
}

}  // namespace
}  // namespace espalier
