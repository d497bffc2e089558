// Whole runs step by step against plain loops around torch's own optimizer: data, losses, limits, rates and resets.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "checkpoint/safetensors.h"
#include "core/file.h"
#include "core/rng.h"
#include "support/plain_optimizer_train.h"
#include "support/tiny_model.h"
#include "support/tiny_run_train.h"
#include "training/draft_head_train.h"
#include "training/linearize.h"
#include "training/shuffled.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;
using testing::PlainOptimizer;
using testing::TemporaryFolder;

std::vector<nlohmann::json> lines_of(const fs::path& path) {
  std::vector<nlohmann::json> lines;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) lines.push_back(nlohmann::json::parse(line));
  return lines;
}

struct PlainStep {
  std::string stage;
  int64_t tokens;
  double loss, length, factor;
};

struct PlainRun {
  std::vector<PlainStep> steps;
  double before, after;
};

// docs/recipes/linearize.md in the order of its sentences.
PlainRun plain_run(const ModelFiles& files, const Tokenizer& tokenizer, const LinearizeOptions& options) {
  const Recipe& recipe = options.recipe;
  const TextRows data(tokenizer, options.data, recipe.held_out_rows,
                      {.context = recipe.context, .end_id = files.tokenizer.eos_id, .seed = recipe.seed});
  Student student(files, {.attention = recipe.attention,
                          .trained = recipe.trained,
                          .lora_rank = recipe.lora_rank,
                          .lora_rank_mlp = recipe.lora_rank_mlp,
                          .lora_scale = recipe.lora_scale,
                          .seed = recipe.seed});
  const int64_t rows = recipe.batch_tokens / recipe.context;
  search_tau(student, data.rows(0, rows), {-10, -8, -6, -5, -4, -3, -2, -1, 0, 1});
  PlainRun run;
  run.before = held_out_loss(student, true, data.held_out()).perplexity();
  int64_t taken = 0;
  for (const bool transfer : {true, false}) {
    const Stage& stage = transfer ? recipe.transfer : recipe.distill;
    std::vector<at::Tensor> features, weights;
    for (Parameter& parameter : student.parameters()) {
      if (!parameter.fixed) (parameter.feature ? features : weights).push_back(parameter.tensor);
    }
    student.set_trained(stage.rates.feature > 0, stage.rates.weight > 0);
    PlainOptimizer optimizer(features, weights);
    const int64_t step_tokens = rows * recipe.context;
    const int64_t steps = (stage.tokens + step_tokens - 1) / step_tokens;
    for (int64_t step = 0; step < steps; ++step) {
      const at::Tensor batch = data.rows(taken, rows);
      taken += rows;
      const double loss = transfer ? transfer_backward(student, batch)
                                   : distill_backward(student, batch, recipe.loss.value_or(DistillLoss::kKl));
      double factor = step + 1 < stage.warmup_steps ? double(step + 1) / double(stage.warmup_steps) : 1.0;
      const double share = double(step * step_tokens) / double(stage.tokens);
      if (stage.cosine) factor *= 0.1 + 0.9 * (1 + std::cos(M_PI * share)) / 2;
      const double length = optimizer.step(stage.rates.feature * factor, stage.rates.weight * factor, stage.clip);
      run.steps.push_back({transfer ? "transfer" : "distill", taken * recipe.context, loss, length, factor});
    }
  }
  const at::NoGradGuard no_grad;
  for (Parameter& parameter : student.parameters()) {
    if (parameter.bf16) parameter.tensor.copy_(parameter.tensor.to(at::kBFloat16));
  }
  run.after = held_out_loss(student, true, data.held_out()).perplexity();
  return run;
}

void expect_plain_run(const Recipe& recipe) {
  at::set_num_threads(1);
  const TemporaryFolder folder;
  const testing::ByteTokenizer tokenizer(97);
  testing::write_text(folder.path() / "text.txt", 3000, 1);
  const ModelFiles files = testing::make_tiny_model({});
  LinearizeOptions options;
  options.out = folder.path() / "run";
  options.data = {folder.path() / "text.txt"};
  options.recipe = recipe;
  const LinearizeResult result = linearize(files, tokenizer, options);
  const PlainRun expected = plain_run(files, tokenizer, options);
  EXPECT_NEAR(result.before, expected.before, 1e-6 * expected.before);
  EXPECT_NEAR(result.after, expected.after, 1e-4 * expected.after);
  const std::vector<nlohmann::json> got = lines_of(options.out / "metrics.jsonl");
  ASSERT_EQ(got.size(), expected.steps.size());
  bool limited = false;
  for (size_t i = 0; i < got.size(); ++i) {
    const PlainStep& step = expected.steps[i];
    EXPECT_EQ(got[i]["stage"], step.stage) << i;
    EXPECT_EQ(got[i]["tokens"], step.tokens) << i;
    EXPECT_NEAR(got[i]["factor"].get<double>(), step.factor, 1e-12) << i;
    EXPECT_NEAR(got[i]["loss"].get<double>(), step.loss, 1e-5 * step.loss) << i;
    EXPECT_NEAR(got[i]["gradient"].get<double>(), step.length, 1e-3 * step.length) << i;
    limited = limited || (step.stage == "transfer" ? recipe.transfer : recipe.distill).clip < step.length;
  }
  EXPECT_EQ(result.tokens, expected.steps.back().tokens);
  EXPECT_TRUE(limited);
}

Recipe short_recipe() {
  Recipe recipe = testing::tiny_recipe("lolcats(group=8,taps=4)");
  recipe.transfer = {.tokens = 96 * 6, .rates = {2e-2, 1e-2}, .warmup_steps = 3, .clip = 0.2};
  recipe.distill = {.tokens = 96 * 8, .rates = {5e-3, 2e-2}, .warmup_steps = 4, .cosine = true, .clip = 0.05};
  return recipe;
}

TEST(LinearizeSteps, AreThoseOfAPlainLoop) {
  expect_plain_run(short_recipe());
}

// A cosine in the first stage as well, a limit in the second alone, tokens that steps do not divide, no warm-up.
TEST(LinearizeSteps, AreThoseOfAPlainLoopWithOtherStages) {
  Recipe recipe = short_recipe();
  recipe.transfer = {.tokens = 96 * 5 - 40, .rates = {1e-2, 1e-2}, .warmup_steps = 0, .cosine = true, .clip = 0};
  recipe.distill = {.tokens = 96 * 5 + 1, .rates = {1e-2, 1e-2}, .warmup_steps = 20, .clip = 0.1};
  recipe.loss = DistillLoss::kCrossEntropy;
  recipe.trained = Trained::kFull;
  recipe.seed = 8;
  expect_plain_run(recipe);
}

// One kind is frozen in each stage.
TEST(LinearizeSteps, AreThoseOfAPlainLoopWithFrozenParts) {
  Recipe recipe = short_recipe();
  recipe.transfer.rates = {2e-2, 0};
  recipe.distill.rates = {0, 2e-2};
  recipe.batch_tokens = 48 * 3;
  expect_plain_run(recipe);
}

// Draft heads, by docs/derivations/draft_head.md in f64.
class PlainHeadTraining {
 public:
  PlainHeadTraining(const Model& model, const DraftHeadOptions& options) : model_(model), options_(options) {
    const int64_t d = model.config().hidden_size, width = options.width > 0 ? options.width : 2 * d;
    read_texts();
    Random random(options.texts.seed, 77);
    std::vector<float> in(static_cast<size_t>(width * 2 * d));
    const float bound = std::sqrt(3.0f / static_cast<float>(2 * d));
    for (float& value : in) value = random.uniform(-bound, bound);
    parameters = {at::from_blob(in.data(), {width, 2 * d}, at::kFloat).to(at::kDouble),
                  at::zeros({d, width}, at::kDouble), at::ones({d}, at::kDouble), at::ones({d}, at::kDouble)};
    for (at::Tensor& parameter : parameters) parameter.set_requires_grad(true);
  }

  struct Step {
    double loss, rate, length;
  };
  std::vector<Step> train() {
    PlainOptimizer optimizer({}, parameters);
    const auto steps = static_cast<int64_t>(options_.epochs * static_cast<double>(starts_.size()) /
                                            static_cast<double>(options_.batch));
    std::vector<int64_t> all(starts_.size());
    for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int64_t>(i);
    std::vector<Step> result;
    for (int64_t step = 0; step < steps; ++step) {
      std::vector<Place> batch;
      for (const int64_t i : shuffled(all, options_.texts.seed, step * options_.batch, options_.batch)) {
        batch.push_back(starts_[static_cast<size_t>(i)]);
      }
      at::Tensor loss = loss_of(batch);
      loss.backward();
      const double cosine = 0.02 + 0.98 * (1 + std::cos(M_PI * double(step) / double(steps))) / 2;
      const double rate = options_.rate * std::min(1.0, double(step + 1) / 50) * cosine;
      const double length = optimizer.step(0, rate, 1.0);
      result.push_back({loss.item<double>(), rate, length});
    }
    return result;
  }

  // Share of the tokens 1, 2, … behind the root that are the first guess, on the texts kept apart.
  std::vector<double> agreement() const {
    const at::NoGradGuard no_grad;
    std::vector<double> right(static_cast<size_t>(options_.depth), 0.0), all = right;
    for (const Place& place : held_out_) {
      const Text& text = texts_[place.text];
      at::Tensor state = text.hidden[place.row];
      for (size_t n = 0; n < right.size() && place.row + n + 2 < text.tokens.size(); ++n) {
        state = cell(state, text.tokens[place.row + n + 1]);
        const int64_t guess = at::matmul(head_, state).argmax().item<int64_t>();
        all[n] += 1;
        right[n] += tokens[static_cast<size_t>(guess)] == text.tokens[place.row + n + 2];
      }
    }
    for (size_t n = 0; n < right.size(); ++n) right[n] /= std::max(1.0, all[n]);
    return right;
  }

  std::vector<int32_t> tokens;         // that can be guessed, the most frequent first
  std::vector<at::Tensor> parameters;  // in, out, state_norm, token_norm
  double coverage = 0;

 private:
  struct Text {
    std::vector<int32_t> tokens;     // from the one before the first that was written
    std::vector<at::Tensor> hidden;  // beside them
  };
  struct Place {
    size_t text, row;
  };

  void read_texts() {
    std::map<int32_t, int64_t> seen;
    double all = 0, covered = 0;
    const std::vector<nlohmann::json> lines = lines_of(options_.out / "texts.jsonl");
    for (size_t i = 1; i < lines.size(); ++i) {
      const auto whole = lines[i]["tokens"].get<std::vector<int32_t>>();
      const auto written = lines[i]["written"].get<size_t>();
      for (size_t t = written; t < whole.size(); ++t) ++seen[whole[t]];
      Text text;
      Workspace workspace(1);
      const SequenceState state = model_.new_state();
      StepOutput output;
      const Segment segment{.state = &state, .tokens = whole, .outputs = Output::kHidden};
      model_.step({&segment, 1}, workspace, output);
      for (size_t t = written - 1; t < whole.size(); ++t) {
        text.tokens.push_back(whole[t]);
        float* row = const_cast<float*>(output.hidden(0, static_cast<int64_t>(t)));
        text.hidden.push_back(at::from_blob(row, {output.width(Output::kHidden)}, at::kFloat)
                                  .to(at::kBFloat16)
                                  .to(at::kDouble));  // as they are kept
      }
      std::vector<Place>& places = (i - 1) % 20 == 19 ? held_out_ : starts_;
      for (size_t row = 0; row + 2 < text.tokens.size(); ++row) places.push_back({texts_.size(), row});
      texts_.push_back(std::move(text));
    }
    for (const auto& [token, count] : seen) {
      tokens.push_back(token);
      all += static_cast<double>(count);
    }
    std::stable_sort(tokens.begin(), tokens.end(), [&](int32_t a, int32_t b) { return seen[a] > seen[b]; });
    tokens.resize(std::min(tokens.size(), static_cast<size_t>(options_.vocabulary)));
    std::vector<at::Tensor> rows;
    for (const int32_t token : tokens) {
      covered += static_cast<double>(seen[token]);
      rows.push_back(row_of(token, true));
    }
    head_ = at::stack(rows);
    coverage = covered / all;
  }

  at::Tensor row_of(int32_t token, bool head) const {
    std::vector<float> embedding(static_cast<size_t>(model_.config().hidden_size)), row = embedding;
    model_.token_rows(token, embedding.data(), row.data());
    return at::from_blob((head ? row : embedding).data(), {std::ssize(row)}, at::kFloat).to(at::kDouble);
  }

  at::Tensor cell(const at::Tensor& state, int32_t token) const {
    const auto normed = [](const at::Tensor& x, const at::Tensor& weight) {
      return x / (x.square().mean() + 1e-6).sqrt() * weight;
    };
    const at::Tensor wide =
        at::matmul(parameters[0], at::cat({normed(state, parameters[2]), normed(row_of(token, false), parameters[3])}));
    return state + at::matmul(parameters[1], wide / (1 + at::exp(-wide)));
  }

  at::Tensor loss_of(const std::vector<Place>& batch) const {
    at::Tensor sum = at::zeros({}, at::kDouble);
    double weights = 0;
    std::vector<at::Tensor> states;
    for (const Place& place : batch) states.push_back(texts_[place.text].hidden[place.row]);
    for (size_t n = 1; n <= static_cast<size_t>(options_.depth); ++n) {
      at::Tensor kl = at::zeros({}, at::kDouble), squares = kl;
      double size = 0, valid = 0;
      for (size_t i = 0; i < batch.size(); ++i) {
        const Text& text = texts_[batch[i].text];
        const size_t last = text.tokens.size() - 1, row = std::min(batch[i].row + n, last);
        states[i] = cell(states[i], text.tokens[row]);
        // |h|^2 over all rows of the batch, those that ran out of text standing at its end.
        size += text.hidden[row].square().mean().item<double>() / static_cast<double>(batch.size());
        if (batch[i].row + n >= last) continue;  // no token follows
        const at::Tensor log_t = at::log_softmax(at::matmul(head_, text.hidden[row]), -1);
        const at::Tensor log_p = at::log_softmax(at::matmul(head_, states[i]), -1);
        kl = kl + (log_t.exp() * (log_t - log_p)).sum();
        squares = squares + (states[i] - text.hidden[row]).square().mean();
        valid += 1;
      }
      const double weight = std::pow(0.8, static_cast<double>(n - 1));
      sum = sum + weight * (kl + 0.1 * squares / size) / std::max(1.0, valid);
      weights += weight;
    }
    return sum / weights;
  }

  const Model& model_;
  const DraftHeadOptions& options_;
  std::vector<Text> texts_;
  std::vector<Place> starts_, held_out_;
  at::Tensor head_;  // [tokens, d]
};

TEST(DraftHeadSteps, AreThoseOfAPlainLoop) {
  const TemporaryFolder folder;
  const ModelFiles files = testing::make_tiny_model({.tied = false});
  const auto model = load_model(files, {.weights = WeightType::kF32});
  Workspace workspace(1);
  DraftHeadOptions options;
  options.out = folder.path();
  for (uint64_t i = 0; i < 40; ++i) options.prompts.push_back(testing::random_tokens(3, 97, i));
  options.texts = {.tokens = 240, .tokens_per_prompt = 6, .batch = 10, .seed = 5};
  options.vocabulary = 20;
  options.depth = 3;
  options.epochs = 3.2;
  options.batch = 32;
  options.rate = 0.1;  // gradients that are limited, parameters that move
  const DraftHeadResult result = train_draft_head(files, *model, workspace, options);
  PlainHeadTraining plain(*model, options);
  const std::vector<PlainHeadTraining::Step> expected = plain.train();
  const std::vector<nlohmann::json> got = lines_of(folder.path() / "metrics.jsonl");
  ASSERT_EQ(got.size(), expected.size());
  ASSERT_GT(got.size(), 15u);
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT_EQ(got[i]["step"], i + 1);
    EXPECT_NEAR(got[i]["rate"].get<double>(), expected[i].rate, 1e-12) << i;
    EXPECT_NEAR(got[i]["loss"].get<double>(), expected[i].loss, 2e-4 * expected[i].loss) << i;
  }
  EXPECT_LT(expected.back().loss, 0.9 * expected.front().loss);
  const auto limited =
      std::count_if(expected.begin(), expected.end(), [](const auto& step) { return step.length > 1.1; });
  EXPECT_GE(limited, 3);
  EXPECT_NEAR(result.coverage, plain.coverage, 1e-12);
  const std::vector<double> agreement = plain.agreement();
  ASSERT_EQ(result.agreement.size(), agreement.size());
  for (size_t n = 0; n < agreement.size(); ++n) EXPECT_NEAR(result.agreement[n], agreement[n], 1e-12) << n;

  const nlohmann::json head = nlohmann::json::parse(read_text_file(folder.path() / "draft_head.json"));
  EXPECT_EQ(head["tokens"].get<std::vector<int32_t>>(), plain.tokens);
  const SafetensorsSource stored({folder.path() / "draft_head.safetensors"});
  const char* names[] = {"in", "out", "state_norm", "token_norm"};
  for (size_t i = 0; i < 4; ++i) {
    const at::Tensor& parameter = plain.parameters[i];
    const std::vector<float> values = stored.read_checked(names[i], parameter.sizes().vec());
    const at::Tensor tensor = at::from_blob(const_cast<float*>(values.data()), parameter.sizes(), at::kFloat);
    const double scale = parameter.abs().max().item<double>();
    EXPECT_LT((tensor - parameter).abs().max().item<double>(), 1e-2 * scale) << names[i];
  }
}

// Shuffled: each epoch is a permutation of all, no two alike, and a run may take them in any pieces.
TEST(Shuffled, GoesOverAllInEveryEpoch) {
  std::vector<int64_t> all;
  for (int64_t i = 0; i < 23; ++i) all.push_back(i * i);
  const std::vector<int64_t> stream = shuffled(all, 4, 0, 23 * 5);
  std::set<std::vector<int64_t>> epochs;
  for (size_t epoch = 0; epoch < 5; ++epoch) {
    std::vector<int64_t> part(stream.begin() + static_cast<int64_t>(epoch) * 23,
                              stream.begin() + static_cast<int64_t>(epoch + 1) * 23);
    epochs.insert(part);
    std::sort(part.begin(), part.end());
    EXPECT_EQ(part, all);
  }
  EXPECT_EQ(epochs.size(), 5u);
  EXPECT_NE(shuffled(all, 5, 0, 23), shuffled(all, 4, 0, 23));
  for (const int64_t size : {1, 2, 7, 22, 23, 24, 60}) {
    std::vector<int64_t> pieces;
    while (std::ssize(pieces) + size <= std::ssize(stream)) {
      const std::vector<int64_t> piece = shuffled(all, 4, std::ssize(pieces), size);
      pieces.insert(pieces.end(), piece.begin(), piece.end());
    }
    EXPECT_TRUE(std::equal(pieces.begin(), pieces.end(), stream.begin())) << size;
  }
  // Every place is taken by every element now and then, the first and the last included.
  std::map<std::pair<int64_t, int64_t>, int> places;
  const std::vector<int64_t> three = {0, 1, 2};
  for (uint64_t seed = 0; seed < 600; ++seed) {
    const std::vector<int64_t> order = shuffled(three, seed, 0, 3);
    for (int64_t i = 0; i < 3; ++i) ++places[{i, order[static_cast<size_t>(i)]}];
  }
  for (const auto& [place, times] : places) EXPECT_NEAR(times, 200, 60);
  EXPECT_EQ(places.size(), 9u);
}

}  // namespace
}  // namespace espalier
