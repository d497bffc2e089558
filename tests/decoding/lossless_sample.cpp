// lossless_sample MODEL [ADAPTER...]: 300 seeded cases on a real model, speculated against plain decoding.
// lossless_sample --tiny CASES: the same on small random models of all attentions.
// lossless_sample --deep CASES: these with a drafter that is nearly always right, trees of 32 to 62 nodes as deep as
// they may be, and prompts from one token on.
//
// The model as it is and with each adapter, in bf16, int8 and int4 (tiny: all weight types); greedy and sampled, 1 and
// 2 threads, trees of 2 to 32 nodes, a prompt that ends at every offset to a group border. Prints a line per attention
// and weight type (tiny: per attention); exits 1 when any token, log-probability or state byte differs.
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "core/rng.h"
#include "decoding/generate.h"
#include "support/adversarial_drafter.h"
#include "support/attentions.h"
#include "support/state_bytes.h"
#include "support/tiny_model.h"

namespace {

using namespace espalier;

constexpr int64_t kCases = 300, kGroup = 64;
constexpr int64_t kNodes[] = {2, 4, 8, 16, 32};

// How a case is made: which prompts, trees and drafters.
struct Manner {
  bool deep = false;

  // Two groups' worth of offsets, the first border crossed by all; deep: up to three blocks.
  int64_t prompt_tokens(const Model& model, int64_t number, Random& random) const {
    const int64_t block = model.mechanisms()[0]->layout().block;
    return deep ? 1 + random.below(3 * (block > 0 ? block : 16)) : kGroup + number % (2 * kGroup);
  }
  int64_t new_tokens() const { return deep ? 80 : 24; }
  int64_t tree_nodes(Random& random) const { return deep ? 32 + random.below(31) : kNodes[random.below(5)]; }
  const testing::DrafterManner& drafter() const { return deep ? testing::kConfident : testing::kDoubtful; }
};

struct Tally {
  int64_t cases = 0, different = 0, steps = 0, steps_with_tree = 0, output = 0;

  // Trees were drafted and taken: a speculation that is switched off proves nothing.
  bool speculated(bool deep) const { return 2 * steps_with_tree > steps && output > (deep ? 4 : 1) * steps; }
};

void try_case(const Model& model, int64_t number, const Manner& manner, Workspace& workspace, Tally& tally) {
  const int64_t vocab = model.config().vocab_size;
  const uint64_t seed = static_cast<uint64_t>(number);
  Random random(seed, 9);
  GenerateRequest request;
  const int64_t prompt_tokens = manner.prompt_tokens(model, number, random);
  for (int64_t i = 0; i < prompt_tokens; ++i) {
    const auto word = static_cast<int32_t>(i % 5 == 0 ? 198 + random.below(40) : 260 + random.below(4000));
    request.prompt.push_back(word % static_cast<int32_t>(vocab));
  }
  request.options.max_tokens = manner.new_tokens();
  request.options.logprobs = 0;
  request.options.ignore_eos = true;
  request.options.sampler.temperature = number % 2 == 0 ? 0.0 : 0.8;
  request.options.sampler.seed = seed;
  Generator generator(model, nullptr, workspace);
  const GenerateResult plain = generator.generate(request);
  std::vector<int32_t> text = request.prompt;
  text.insert(text.end(), plain.tokens.begin(), plain.tokens.end());
  request.options.speculation.mode = SpeculationMode::kNgram;
  request.options.speculation.tree_nodes = manner.tree_nodes(random);
  request.options.speculation.draft_depth = kMaxTreeNodes;
  request.options.speculation.make_drafters = [&] {
    std::vector<std::unique_ptr<Drafter>> drafters;
    drafters.push_back(std::make_unique<testing::AdversarialDrafter>(text, vocab, seed, manner.drafter()));
    return drafters;
  };
  const GenerateResult speculated = generator.generate(request);
  ++tally.cases;
  bool different = plain.tokens != speculated.tokens ||
                   testing::state_bytes(plain.state) != testing::state_bytes(speculated.state) ||
                   plain.logprobs.size() != speculated.logprobs.size();
  for (size_t i = 0; !different && i < plain.logprobs.size(); ++i) {
    different = plain.logprobs[i].logprob != speculated.logprobs[i].logprob;
  }
  tally.different += different;
  tally.steps += speculated.stats.steps;
  tally.steps_with_tree += speculated.stats.steps_with_tree;
  tally.output += static_cast<int64_t>(speculated.tokens.size());
}

void print(const std::string& what, const Tally& tally) {
  std::printf("%-40s %4ld cases, %ld different; %.0f %% of steps with a tree, %.2f tokens per step\n", what.c_str(),
              static_cast<long>(tally.cases), static_cast<long>(tally.different),
              100.0 * static_cast<double>(tally.steps_with_tree) / static_cast<double>(tally.steps),
              static_cast<double>(tally.output) / static_cast<double>(tally.steps));
  std::fflush(stdout);
}

// Returns how many cases differ.
int64_t try_model(int models, char** paths) {
  constexpr WeightType kTypes[] = {WeightType::kBf16, WeightType::kInt8, WeightType::kInt4Min};
  int64_t different = 0, next = 0, run = 0;
  for (int m = 0; m < models; ++m) {
    const ModelFiles files = open_model(paths[0], {.adapter = m == 0 ? "" : paths[m]});
    for (const WeightType type : kTypes) {
      const auto model = load_model(files, {.weights = type});
      Workspace one(1), two(2);
      Tally tally;
      for (const int64_t end = kCases * ++run / (3 * models); next < end; ++next) {
        try_case(*model, next, {}, next % 4 < 2 ? one : two, tally);
      }
      print(files.config.attention[0] + " " + std::string(weight_type_name(type)), tally);
      different += tally.different;
    }
  }
  return different;
}

int64_t try_tiny(int64_t cases, const Manner& manner) {
  constexpr WeightType kTypes[] = {WeightType::kF32, WeightType::kBf16, WeightType::kInt8, WeightType::kInt4,
                                   WeightType::kInt4Min};
  const std::vector<const char*> attentions = testing::attentions_in_models();
  const auto runs = static_cast<int64_t>(attentions.size() * std::size(kTypes));
  int64_t different = 0, next = 0, run = 0;
  Tally all;
  for (const char* attention : attentions) {
    Tally tally;
    for (const WeightType type : kTypes) {
      const auto model = testing::load_tiny_model(
          {.family = run % 7 == 3 ? "gpt2" : "llama", .heads_kv = run % 7 == 3 ? 3 : 1, .attention = {attention}},
          type);
      Workspace one(1), two(2);
      for (const int64_t end = cases * ++run / runs; next < end; ++next) {
        try_case(*model, next, manner, next % 4 < 2 ? one : two, tally);
      }
    }
    print(attention, tally);
    different += tally.different;
    all.cases += tally.cases, all.different += tally.different, all.steps += tally.steps;
    all.steps_with_tree += tally.steps_with_tree, all.output += tally.output;
  }
  print("all", all);
  if (all.cases != cases || !all.speculated(manner.deep)) {
    throw Internal(error_text("sample", std::to_string(cases) + " cases with trees", std::to_string(all.cases)));
  }
  return different;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "error: [usage] expected MODEL [ADAPTER…], --tiny CASES or --deep CASES, got nothing\n");
    return 2;
  }
  try {
    const std::string_view first = argv[1];
    const Manner manner{.deep = first == "--deep"};
    const int64_t different = manner.deep || first == "--tiny" ? try_tiny(argc > 2 ? std::atoll(argv[2]) : 1000, manner)
                                                               : try_model(argc - 1, argv + 1);
    return different == 0 ? 0 : 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
}
