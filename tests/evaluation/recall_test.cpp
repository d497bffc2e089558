#include "evaluation/recall.h"

#include <gtest/gtest.h>

#include <map>
#include <numeric>

#include "core/error.h"
#include "core/tokenizer_data.h"
#include "evaluation/step_times.h"
#include "models/state_access.h"
#include "support/byte_level.h"
#include "support/tiny_model.h"

namespace espalier {
namespace {

using testing::load_tiny_model;
using testing::random_tokens;

// A model that remembers what followed the longest earlier match of the last `reach` tokens, or of none beyond
// `memory` tokens back. It keeps the text by itself, so one sequence at a time.
class RememberingModel : public Model {
 public:
  explicit RememberingModel(int64_t memory) : memory_(memory) {
    config_.vocab_size = 256;
    config_.max_position_embeddings = 1 << 20;
    config_.num_hidden_layers = 1;
    mechanisms_.push_back(
        make_mechanism(AttentionSpec::parse("softmax"), {.heads = 1, .heads_kv = 1, .dim_k = 16, .dim_v = 16}));
  }
  const ModelConfig& config() const override { return config_; }
  const Kernels& kernels() const override { return best_kernels(); }
  const std::vector<std::unique_ptr<Mechanism>>& mechanisms() const override { return mechanisms_; }
  const std::vector<TailShape>& tails() const override { return tails_; }
  const std::vector<std::string>& converted() const override { return converted_; }
  bool gives(Output what) const override { return what == Output::kLogits; }
  int64_t weight_bytes() const override { return 1; }
  int64_t parameters() const override { return 1; }

  void run(std::span<const Segment> segments, Workspace&, StepOutput& output, StepObserver*) const override {
    const Segment& segment = segments[0];
    text_.resize(static_cast<size_t>(segment.state->length()));
    const size_t rows = segment.tokens.size();
    logits_.assign(rows * 256, 0.0f);
    output.pending.resize(1);
    std::vector<int32_t> parents(rows);
    std::iota(parents.begin(), parents.end(), -1);
    StateAccess::start(output.pending[0], segment.state->length(), false, parents, 1, 0);
    StateAccess::k(output.pending[0], 0).assign(rows * 16, 0.0f);
    StateAccess::v(output.pending[0], 0).assign(rows * 16, 0.0f);
    output.start({0}, static_cast<int64_t>(rows));
    for (size_t r = 0; r < rows; ++r) {
      text_.push_back(segment.tokens[r]);
      logits_[r * 256 + static_cast<size_t>(remembered())] = 20.0f;
      output.set(Output::kLogits, 256, static_cast<int64_t>(r), logits_.data() + r * 256);
    }
  }

 private:
  // What followed the place before the end that shares the longest suffix with the text.
  int32_t remembered() const {
    const auto n = static_cast<int64_t>(text_.size());
    int64_t best = 0;
    int32_t token = 0;
    for (int64_t end = std::max<int64_t>(1, n - memory_); end < n; ++end) {
      int64_t match = 0;
      while (match < end && text_[static_cast<size_t>(end - 1 - match)] == text_[static_cast<size_t>(n - 1 - match)]) {
        ++match;
      }
      if (match > best) best = match, token = text_[static_cast<size_t>(end)];
    }
    return token;
  }

  ModelConfig config_;
  std::vector<std::unique_ptr<Mechanism>> mechanisms_;
  std::vector<TailShape> tails_;
  std::vector<std::string> converted_;
  int64_t memory_;
  mutable std::vector<int32_t> text_;
  mutable std::vector<float> logits_;
};

const RecallOptions kOptions{.copy_tokens = 20, .gap_tokens = 30, .trials = 3, .probes = 4};

TEST(Recall, APerfectMemoryAnswersEveryProbe) {
  const RememberingModel model(1 << 20);
  Workspace workspace(1);
  const RecallResult result =
      recall(model, *testing::byte_tokenizer(), random_tokens(300, 256, 3), kOptions, workspace);
  EXPECT_EQ(result.n, 3 * 19);
  EXPECT_EQ(result.lookup_share, 1.0);
  EXPECT_EQ(result.copy_share, 1.0);
  EXPECT_LT(result.second_copy_perplexity, 2.0);
  EXPECT_GT(result.first_copy_perplexity, 100.0);
}

TEST(Recall, AMemoryShorterThanTheGapAnswersNone) {
  const RememberingModel model(25);
  Workspace workspace(1);
  const RecallResult result =
      recall(model, *testing::byte_tokenizer(), random_tokens(300, 256, 3), kOptions, workspace);
  EXPECT_EQ(result.lookup_share, 0.0);
  EXPECT_LT(result.copy_share, 0.3);
  EXPECT_GT(result.second_copy_perplexity, 100.0);
}

TEST(Recall, IsDeterministicAndRefusesTooShortATextOrBadOptions) {
  const auto model = load_tiny_model({.vocab_size = 256});
  const auto tokenizer = testing::byte_tokenizer();
  Workspace one(1), two(2);
  const auto text = random_tokens(200, 256, 4);
  const RecallResult a = recall(*model, *tokenizer, text, kOptions, one);
  const RecallResult b = recall(*model, *tokenizer, text, kOptions, two);
  EXPECT_EQ(a.second_copy_perplexity, b.second_copy_perplexity);
  EXPECT_EQ(a.copy_share, b.copy_share);
  EXPECT_THROW(recall(*model, *tokenizer, random_tokens(50, 256, 4), kOptions, one), InvalidArgument);
  RecallOptions bad = kOptions;
  bad.trials = 0;
  EXPECT_THROW(recall(*model, *tokenizer, text, bad, one), InvalidArgument);
}

TEST(StepTimes, MeasureEverySizeThatTheTreeMayHave) {
  const auto softmax = load_tiny_model({});
  Workspace workspace(2);
  const StepTimesOptions options{.prefill_tokens = 20, .decode_tokens = 2, .repeats = 1};
  const StepTimes times = measure_step_times(*softmax, options, workspace);
  EXPECT_GT(times.prefill_tokens_per_second, 0);
  EXPECT_GT(times.decode_tokens_per_second, 0);
  EXPECT_EQ(times.verify_ms.size(), 7u);
  EXPECT_GT(times.bandwidth, 1e8);
  EXPECT_THROW(measure_step_times(*softmax, {.repeats = 0}, workspace), InvalidArgument);
  // A deep tree must not reach beyond what a folding state allows.
  const auto folding = load_tiny_model({.attention = {"lolcats(group=8)"}});
  EXPECT_EQ(measure_step_times(*folding, options, workspace).verify_ms.size(), 7u);
}

}  // namespace
}  // namespace espalier
