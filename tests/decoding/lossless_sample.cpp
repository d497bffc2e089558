// lossless_sample MODEL [ADAPTER...]: 200 seeded cases on a real model, speculated against plain decoding.
//
// The model as it is and with each adapter; greedy and sampled, 1 and 2 threads, trees of 2 to 32 nodes, a prompt that
// ends at every offset to a group border. Prints a line per attention; exits 1 when any token or state byte differs.
#include <cstdio>

#include "core/rng.h"
#include "decoding/generate.h"
#include "support/adversarial_drafter.h"

namespace {

using namespace espalier;

constexpr int64_t kCases = 200, kGroup = 64, kNewTokens = 24;
constexpr int64_t kNodes[] = {2, 4, 8, 16, 32};

std::string bytes(const SequenceState& state) {
  std::string text;
  for (const LayerState& layer : state.layers) layer.serialize(text);
  return text;
}

struct Tally {
  int64_t cases = 0, different = 0, steps = 0, steps_with_tree = 0, output = 0;
};

void try_case(const Model& model, int64_t number, Workspace& workspace, Tally& tally) {
  const int64_t vocab = model.config().vocab_size;
  const uint64_t seed = static_cast<uint64_t>(number);
  Random random(seed, 9);
  GenerateRequest request;
  // 64 + number: two groups' worth of offsets, the first border crossed by all.
  for (int64_t i = 0; i < kGroup + number % (2 * kGroup); ++i) {
    request.prompt.push_back(static_cast<int32_t>(i % 5 == 0 ? 198 + random.below(40) : 260 + random.below(4000)));
  }
  request.options.max_tokens = kNewTokens;
  request.options.ignore_eos = true;
  request.options.sampler.temperature = number % 2 == 0 ? 0.0 : 0.8;
  request.options.sampler.seed = seed;
  Generator generator(model, nullptr, workspace);
  const GenerateResult plain = generator.generate(request);
  std::vector<int32_t> text = request.prompt;
  text.insert(text.end(), plain.tokens.begin(), plain.tokens.end());
  request.options.speculation.mode = SpeculationMode::kNgram;
  request.options.speculation.tree_nodes = kNodes[random.below(5)];
  request.options.speculation.make_drafters = [&] {
    std::vector<std::unique_ptr<Drafter>> drafters;
    drafters.push_back(std::make_unique<testing::AdversarialDrafter>(text, vocab, seed));
    return drafters;
  };
  const GenerateResult speculated = generator.generate(request);
  ++tally.cases;
  tally.different += plain.tokens != speculated.tokens || bytes(plain.state) != bytes(speculated.state);
  tally.steps += speculated.stats.steps;
  tally.steps_with_tree += speculated.stats.steps_with_tree;
  tally.output += static_cast<int64_t>(speculated.tokens.size());
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "error: [usage] expected MODEL [ADAPTER…], got nothing\n");
    return 2;
  }
  const int models = argc - 1;
  int64_t different = 0, next = 0;
  try {
    for (int m = 0; m < models; ++m) {
      const ModelFiles files = open_model(argv[1], {.adapter = m == 0 ? "" : argv[m + 1]});
      const auto model = load_model(files, {});
      Workspace one(1), two(2);
      Tally tally;
      for (const int64_t end = kCases * (m + 1) / models; next < end; ++next) {
        try_case(*model, next, next % 4 < 2 ? one : two, tally);
      }
      std::printf("%-24s %3ld cases, %ld different; %.0f %% of steps with a tree, %.2f tokens per step\n",
                  files.config.attention[0].c_str(), static_cast<long>(tally.cases), static_cast<long>(tally.different),
                  100.0 * static_cast<double>(tally.steps_with_tree) / static_cast<double>(tally.steps),
                  static_cast<double>(tally.output) / static_cast<double>(tally.steps));
      std::fflush(stdout);
      different += tally.different;
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
  return different == 0 ? 0 : 1;
}
