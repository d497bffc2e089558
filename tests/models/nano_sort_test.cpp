// A real GPT-2 (minGPT's, trained to sort six letters) with the values of every stage that its own program recorded.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <string>

#include "checkpoint/model_files.h"
#include "checkpoint/safetensors.h"
#include "core/rng.h"
#include "decoding/logprob.h"
#include "models/forward.h"
#include "models/gpt2.h"
#include "models/step_context.h"
#include "models/step_loader.h"
#include "models/step_rows.h"

namespace espalier {
namespace {

const std::string kFolder = std::string(ESPALIER_TEST_DATA) + "/models/nano-sort";

using Values = std::vector<float>;

// A context that keeps what every operator gave.
class Recorder : public StepContext {
 public:
  using StepContext::StepContext;

  Rows embed(const StepMatrix& table, Tokens tokens) { return keep("embed", StepContext::embed(table, tokens)); }
  Rows add_positions(const Rows& x, const StepMatrix& table) {
    return keep("add_positions", StepContext::add_positions(x, table));
  }
  Rows layer_norm(const Rows& x, const Vector& weight, const Vector& bias, double eps) {
    return keep("layer_norm", StepContext::layer_norm(x, weight, bias, eps));
  }
  template <size_t N>
  std::array<Rows, N> project(const Rows& x, const std::array<const StepMatrix*, N>& layers) {
    const auto results = StepContext::project(x, layers);
    for (const Rows& y : results) keep("project", y);
    return results;
  }
  Rows attend(int64_t layer, const Rows& h, const Rows& q, const Rows& k, const Rows& v, const Vector* bias) {
    return keep("attend", StepContext::attend(layer, h, q, k, v, bias));
  }
  Rows activate(Activation f, const Rows& x) { return keep("activate", StepContext::activate(f, x)); }
  Rows add(const Rows& a, const Rows& b) { return keep("add", StepContext::add(a, b)); }

  const std::vector<std::pair<std::string, Values>>& kept() const { return kept_; }

 private:
  Rows keep(const char* name, const Rows& x) {
    kept_.emplace_back(name, Values(x.data, x.data + x.rows * x.columns));
    return x;
  }
  std::vector<std::pair<std::string, Values>> kept_;
};

Values read(const SafetensorsSource& source, const std::string& name) {
  Values values(static_cast<size_t>(source.find(name)->elements()));
  source.read(name, values.data());
  return values;
}

// [H, T, D] of one text -> [T, H * D], as projections give it.
Values rows_of_heads(const Values& x, int64_t heads, int64_t tokens) {
  const int64_t dim = static_cast<int64_t>(x.size()) / heads / tokens;
  Values y(x.size());
  for (int64_t h = 0; h < heads; ++h) {
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t d = 0; d < dim; ++d) {
        y[static_cast<size_t>((t * heads + h) * dim + d)] = x[static_cast<size_t>((h * tokens + t) * dim + d)];
      }
    }
  }
  return y;
}

void expect_near(const Values& got, const Values& expected, const std::string& what) {
  ASSERT_EQ(got.size(), expected.size()) << what;
  for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], expected[i], 1e-4) << what << " " << i;
}

TEST(NanoSort, EveryStageIsThatOfTheOriginal) {
  const ModelFiles files = open_model(kFolder);
  const SafetensorsSource stages({kFolder + "/activations.safetensors"});
  const auto model = load_model(files, {.weights = WeightType::kF32});
  StepLoader loader(*files.tensors, WeightType::kF32, 0);
  const auto weights = Gpt2::load<Recorder>(loader, model->config());
  loader.finish();
  constexpr int64_t kTokens = 11, kTexts = 3;
  const Values ids = read(stages, "idx");
  Workspace workspace(2);
  std::map<std::string, Values> expected;
  for (const std::string& name : stages.names()) expected[name] = read(stages, name);

  for (int64_t text = 0; text < kTexts; ++text) {
    std::vector<int32_t> tokens;
    for (int64_t t = 0; t < kTokens; ++t) tokens.push_back(static_cast<int32_t>(ids[text * kTokens + t]));
    const SequenceState state = model->new_state();
    const Segment segment{.state = &state, .tokens = tokens};
    StepOutput output;
    const StepRows rows = gather_rows(*model, {&segment, 1}, output);
    workspace.arena.reset();
    Recorder context(model->kernels(), workspace, model->mechanisms(), model->config(), rows, output.pending);
    const Rows hidden = forward_hidden<Gpt2>(context, model->config(), weights, std::span<const int32_t>(rows.tokens));
    output_of<Gpt2>(context, model->config(), weights, hidden, Output::kLogits);

    const auto own = [&](const std::string& name) {
      const Values& all = expected.at(name);
      const size_t size = all.size() / kTexts;
      const Values part(all.begin() + static_cast<std::ptrdiff_t>(size) * text,
                        all.begin() + static_cast<std::ptrdiff_t>(size) * (text + 1));
      return name == "q" || name == "k" || name == "v" ? rows_of_heads(part, 3, kTokens) : part;
    };
    // The operators of the first block in turn, of the others their sums, then the end.
    const std::vector<std::pair<std::string, std::string>> first = {
        {"embed", "tok_emb"}, {"add_positions", "x"}, {"layer_norm", "ln1"}, {"project", "q"},
        {"project", "k"},     {"project", "v"},       {"attend", "y"},       {"project", "yProj"},
        {"add", "attnResid"}, {"layer_norm", "ln2"},  {"project", "fc"},     {"activate", "gelu"},
        {"project", "mlp"},   {"add", "mlpResid"}};
    const auto& kept = context.kept();
    ASSERT_EQ(kept.size(), first.size() + 2 * 12 + 2);
    for (size_t i = 0; i < first.size(); ++i) {
      ASSERT_EQ(kept[i].first, first[i].first);
      expect_near(kept[i].second, own(first[i].second), first[i].second);
    }
    for (int block = 0; block < 3; ++block) {
      expect_near(kept[static_cast<size_t>(13 + 12 * block)].second, own("block" + std::to_string(block)), "block");
    }
    expect_near(kept[kept.size() - 2].second, own("ln_f"), "ln_f");
    expect_near(kept.back().second, own("lm_head"), "lm_head");

    // Scores and probabilities are never stored by a step: what our q and k give.
    const Values &q = kept[3].second, &k = kept[4].second, scores = own("att"), weights_of_rows = own("attSm");
    for (int64_t h = 0; h < 3; ++h) {
      for (int64_t t = 0; t < kTokens; ++t) {
        double sum = 0;
        for (int64_t s = 0; s <= t; ++s) {
          double score = 0;
          for (int64_t d = 0; d < 16; ++d) score += double{q[(t * 3 + h) * 16 + d]} * k[(s * 3 + h) * 16 + d];
          ASSERT_NEAR(score / 4, scores[(h * kTokens + t) * kTokens + s], 1e-4);
          sum += std::exp(score / 4);
        }
        for (int64_t s = 0; s <= t; ++s) {
          const size_t i = static_cast<size_t>((h * kTokens + t) * kTokens + s);
          ASSERT_NEAR(std::exp(double{scores[i]}) / sum, weights_of_rows[i], 1e-4);
        }
      }
    }
    const Values &logits = kept.back().second, probabilities = own("probs");
    for (int64_t t = 0; t < kTokens; ++t) {
      for (int32_t token = 0; token < 3; ++token) {
        const float log_probability = token_logprob(model->kernels(), logits.data() + t * 3, 3, token);
        ASSERT_NEAR(std::exp(log_probability), probabilities[static_cast<size_t>(t * 3 + token)], 1e-4);
      }
    }
  }
}

TEST(NanoSort, SortsFiveHundredRandomTexts) {
  const auto model = load_model(open_model(kFolder), {.weights = WeightType::kF32});
  Workspace workspace(1);
  Random random(500);
  for (int text = 0; text < 500; ++text) {
    std::vector<int32_t> tokens;
    for (int i = 0; i < 6; ++i) tokens.push_back(static_cast<int32_t>(random.below(3)));
    std::vector<int32_t> expected = tokens, sorted;
    std::sort(expected.begin(), expected.end());
    SequenceState state = model->new_state();
    std::vector<float> last;
    model->prefill(state, tokens, workspace, nullptr, &last);
    while (true) {
      sorted.push_back(argmax(last.data(), 3));
      if (sorted.size() == 6) break;
      model->prefill(state, {&sorted.back(), 1}, workspace, nullptr, &last);
    }
    ASSERT_EQ(sorted, expected) << "text " << text;
  }
}

}  // namespace
}  // namespace espalier
