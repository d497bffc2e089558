// Whole trainings of a draft head: it learns what a tiny model writes, and survives being stopped anywhere.
#include "training/draft_head_train.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/error.h"
#include "core/file.h"
#include "decoding/drafters/draft_head.h"
#include "decoding/generate.h"
#include "support/tiny_model.h"
#include "support/tiny_run_train.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;
using testing::TemporaryFolder;

DraftHeadOptions options_of(const fs::path& out) {
  DraftHeadOptions options;
  options.model_name = "tiny";
  options.out = out;
  for (uint64_t i = 0; i < 40; ++i) options.prompts.push_back(testing::random_tokens(3, 97, i));
  options.texts = {.tokens = 1200, .tokens_per_prompt = 30, .batch = 10};
  options.vocabulary = 64;
  options.depth = 3;
  options.epochs = 6;
  options.batch = 64;
  options.rate = 3e-3;
  options.checkpoint_seconds = 0;
  options.command = "a test";
  return options;
}

std::string head_of(const fs::path& out) {
  return read_text_file(out / "draft_head.json") + read_text_file(out / "draft_head.safetensors");
}

TEST(DraftHeadTraining, LearnsWhatTheModelWrites) {
  const TemporaryFolder folder;
  const ModelFiles files = testing::make_tiny_model({.attention = {"lolcats(group=8)"}});
  const auto model = load_model(files, {});
  Workspace workspace(2);
  DraftHeadOptions options = options_of(folder.path());
  options.epochs = 60;
  const DraftHeadResult result = train_draft_head(files, *model, workspace, options);
  EXPECT_TRUE(result.finished);
  EXPECT_GE(result.tokens, 1200);
  EXPECT_EQ(result.agreement.size(), 3u);
  EXPECT_GT(result.coverage, 0.7);
  std::istringstream metrics(read_text_file(options.out / "metrics.jsonl"));
  std::vector<double> losses;
  for (std::string line; std::getline(metrics, line);) losses.push_back(nlohmann::json::parse(line)["loss"]);
  EXPECT_LT(losses.back(), 0.2 * losses.front());

  // What was written is what guesses: more tokens a step than the look-up alone gives, and the same text.
  const DraftHead head = DraftHead::load(options.out, files, *model);
  EXPECT_EQ(head.tokens().size(), 64u);
  Generator plain(*model, nullptr, workspace), drafting(*model, nullptr, workspace, {.head = &head});
  int64_t with_head = 0, without = 0;
  for (size_t i = 0; i < 10; ++i) {
    GenerateRequest request{.prompt = options.prompts[i]};
    request.options.max_tokens = 30;
    const GenerateResult expected = plain.generate(request);
    request.options.speculation = {.mode = SpeculationMode::kAuto, .tree_nodes = 6};
    const GenerateResult drafted = drafting.generate(request);
    EXPECT_EQ(drafted.tokens, expected.tokens);
    with_head += drafted.stats.steps;
    request.options.speculation.mode = SpeculationMode::kNgram;
    without += drafting.generate(request).stats.steps;
  }
  EXPECT_LT(with_head, without);
}

TEST(DraftHeadTraining, GoesOnToTheSameHead) {
  at::set_num_threads(1);
  const TemporaryFolder folder;
  const ModelFiles files = testing::make_tiny_model({});
  const auto model = load_model(files, {});
  Workspace workspace(1);
  DraftHeadOptions whole = options_of(folder.path() / "whole");
  train_draft_head(files, *model, workspace, whole);
  for (const int stop_after : {1, 3, 7, 30}) {  // while writing, and while training
    DraftHeadOptions parts = options_of(folder.path() / std::to_string(stop_after));
    int asked = 0;
    parts.stop = [&] { return ++asked >= stop_after; };
    EXPECT_FALSE(train_draft_head(files, *model, workspace, parts).finished);
    EXPECT_FALSE(fs::exists(parts.out / "draft_head.json"));
    parts.stop = nullptr;
    EXPECT_THROW(train_draft_head(files, *model, workspace, parts), InvalidArgument);  // without resume
    parts.resume = true;
    EXPECT_TRUE(train_draft_head(files, *model, workspace, parts).finished);
    EXPECT_EQ(head_of(parts.out), head_of(whole.out)) << stop_after;
  }
}

// Killed in the middle of a batch, and in the middle of a line.
TEST(DraftHeadTraining, ForgetsHalfABatch) {
  at::set_num_threads(1);
  const TemporaryFolder folder;
  const ModelFiles files = testing::make_tiny_model({});
  const auto model = load_model(files, {});
  Workspace workspace(1);
  DraftHeadOptions options = options_of(folder.path() / "whole");
  train_draft_head(files, *model, workspace, options);
  const std::string expected = head_of(options.out), texts = read_text_file(options.out / "texts.jsonl");
  options.resume = true;
  for (const int lines : {0, 1, 2, 8, 11, 25}) {
    size_t end = 0;
    for (int i = 0; i < lines; ++i) end = texts.find('\n', end) + 1;
    options.out = folder.path() / std::to_string(lines);
    fs::create_directories(options.out);
    write_file(options.out / "texts.jsonl", texts.substr(0, end + 7));
    train_draft_head(files, *model, workspace, options);
    EXPECT_EQ(read_text_file(options.out / "texts.jsonl"), texts) << lines;
    EXPECT_EQ(head_of(options.out), expected) << lines;
  }
}

TEST(DraftHeadTraining, ChecksTheTextsOfAnEarlierRun) {
  const TemporaryFolder folder;
  const ModelFiles files = testing::make_tiny_model({});
  const auto model = load_model(files, {});
  Workspace workspace(1);
  DraftHeadOptions options = options_of(folder.path());
  train_draft_head(files, *model, workspace, options);
  const std::string texts = read_text_file(options.out / "texts.jsonl");
  options.resume = true;
  for (const char* line : {"{", "[]", "{}", R"({"tokens": [1, 2, 3]})", R"({"tokens": [1, 2, 3], "written": -1})",
                           R"({"tokens": [1, 2, 3], "written": 0})", R"({"tokens": [1, 2, 3], "written": 4})",
                           R"({"tokens": [1, 97, 3], "written": 1})", R"({"tokens": [1, -2, 3], "written": 1})",
                           R"({"tokens": [1, 4294967297, 3], "written": 1})", R"({"tokens": "1", "written": 1})",
                           R"({"tokens": [1, 2, 3], "written": "1"})"}) {
    const size_t first = texts.find('\n') + 1;
    write_file(options.out / "texts.jsonl", texts.substr(0, first) + line + "\n" + texts.substr(first));
    EXPECT_THROW(train_draft_head(files, *model, workspace, options), CorruptFile) << line;
  }
}

TEST(DraftHeadTraining, RefusesWhatDoesNotFit) {
  const TemporaryFolder folder;
  const ModelFiles files = testing::make_tiny_model({});
  const auto model = load_model(files, {});
  Workspace workspace(1);
  DraftHeadOptions options = options_of(folder.path() / "run");
  options.texts.tokens = 40;
  options.texts.tokens_per_prompt = 5;
  EXPECT_THROW(train_draft_head(files, *model, workspace, options), InvalidArgument);  // too few texts to keep one
  for (const double value : {0.0, -1.0, std::nan(""), double(INFINITY)}) {
    options = options_of(folder.path() / "run");
    options.rate = value;
    EXPECT_THROW(train_draft_head(files, *model, workspace, options), InvalidArgument);
    options = options_of(folder.path() / "run");
    options.epochs = value;
    EXPECT_THROW(train_draft_head(files, *model, workspace, options), InvalidArgument);
  }
  options = options_of(folder.path() / "run");
  options.prompts.back().assign(5000, 1);
  EXPECT_THROW(train_draft_head(files, *model, workspace, options), InvalidArgument);  // beyond the positions
  const ModelFiles encoder = testing::make_tiny_model({.family = "bert", .heads_kv = 3, .max_positions = 64});
  EXPECT_THROW(train_draft_head(encoder, *load_model(encoder, {}), workspace, options), NotSupported);
  EXPECT_FALSE(fs::exists(options.out));  // nothing was written before all was checked
  options = options_of(folder.path() / "other");
  train_draft_head(files, *model, workspace, options);
  options.resume = true;
  options.made_with = "int8";
  EXPECT_THROW(train_draft_head(files, *model, workspace, options), InvalidArgument);  // other texts
  options.made_with.clear();
  options.rate *= 2;
  EXPECT_THROW(train_draft_head(files, *model, workspace, options), InvalidArgument);  // another training
  options = options_of(folder.path() / "none");
  options.prompts.clear();
  EXPECT_THROW(train_draft_head(files, *model, workspace, options), InvalidArgument);
}

}  // namespace
}  // namespace espalier
