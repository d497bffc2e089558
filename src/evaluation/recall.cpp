#include "evaluation/recall.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/rng.h"
#include "decoding/generate.h"
#include "decoding/logprob.h"

namespace espalier {
namespace {

constexpr const char* kWords[] = {"river",   "candle", "orange", "winter",  "castle", "garden",  "silver",  "pepper",
                                  "bridge",  "window", "forest", "button",  "rabbit", "mirror",  "ladder",  "basket",
                                  "copper",  "island", "pencil", "thunder", "velvet", "harbor",  "violin",  "meadow",
                                  "lantern", "pillow", "engine", "turtle",  "marble", "feather", "compass", "walnut"};
constexpr const char* kNames[] = {"Anna", "Bernard", "Clara", "David", "Emma", "Frank", "Grace", "Henry"};
constexpr int64_t kListWords = 12;

// What a model reads, and what it should then write.
struct Probe {
  std::vector<int32_t> prompt, answer;
};

std::vector<int32_t> encode(const Tokenizer& tokenizer, const std::string& text) {
  const Tokenizer::Part part{text};
  return tokenizer.encode({&part, 1}, false);
}

void append(std::vector<int32_t>& tokens, std::span<const int32_t> more) {
  tokens.insert(tokens.end(), more.begin(), more.end());
}

std::span<const int32_t> gap_of(std::span<const int32_t> text, const RecallOptions& options, int64_t index) {
  const int64_t begin = index * options.gap_tokens % (static_cast<int64_t>(text.size()) - options.gap_tokens);
  return text.subspan(static_cast<size_t>(begin), static_cast<size_t>(options.gap_tokens));
}

Probe make_probe(const Tokenizer& tokenizer, const std::string& told, std::span<const int32_t> gap,
                 const std::string& question, const std::string& answer) {
  Probe probe{.prompt = tokenizer.encode(told), .answer = encode(tokenizer, answer)};
  append(probe.prompt, gap);
  append(probe.prompt, encode(tokenizer, question));
  return probe;
}

Probe copy_probe(const Tokenizer& tokenizer, std::span<const int32_t> gap, Random& random) {
  std::vector<const char*> words(std::begin(kWords), std::end(kWords));
  for (size_t i = 0; i < static_cast<size_t>(kListWords); ++i) {
    std::swap(words[i], words[i + static_cast<size_t>(random.below(static_cast<int64_t>(words.size() - i)))]);
  }
  std::string told = "The words are:", rest;
  for (size_t i = 0; i < static_cast<size_t>(kListWords); ++i) {
    told += std::string(" ") + words[i];
    if (i > 0) rest += std::string(" ") + words[i];
  }
  return make_probe(tokenizer, told + ".\n", gap, std::string("\nThe words are: ") + words[0], rest);
}

Probe lookup_probe(const Tokenizer& tokenizer, std::span<const int32_t> gap, Random& random) {
  std::string told, question, answer;
  const int64_t asked = random.below(std::size(kNames));
  for (int64_t i = 0; i < static_cast<int64_t>(std::size(kNames)); ++i) {
    const std::string code = std::to_string(1000 + random.below(9000));
    const std::string sentence = std::string("The code of ") + kNames[i] + " is";
    told += sentence + " " + code + ". ";
    if (i == asked) question = "\n" + sentence, answer = " " + code;
  }
  return make_probe(tokenizer, told, gap, question, answer);
}

// The share of the answer's tokens that greedy decoding puts in their places.
double answered_share(Generator& generator, const Probe& probe) {
  GenerateRequest request{.prompt = probe.prompt};
  request.options.max_tokens = static_cast<int64_t>(probe.answer.size());
  request.options.ignore_eos = true;
  const std::vector<int32_t> tokens = generator.generate(request).tokens;
  int64_t right = 0;
  for (size_t i = 0; i < std::min(tokens.size(), probe.answer.size()); ++i) right += tokens[i] == probe.answer[i];
  return static_cast<double>(right) / static_cast<double>(probe.answer.size());
}

struct CopyLoss {
  double first = 0, second = 0;
};

CopyLoss copy_loss(const Model& model, std::span<const int32_t> passage, std::span<const int32_t> gap,
                   Workspace& workspace) {
  std::vector<int32_t> tokens(passage.begin(), passage.end());
  append(tokens, gap);
  append(tokens, passage);
  const auto copy = static_cast<int64_t>(passage.size()), second = copy + static_cast<int64_t>(gap.size());
  CopyLoss loss;
  SequenceState state = model.new_state();
  model.prefill(
      state, tokens, workspace,
      [&](int64_t index, const float* logits) {
        const int64_t target = index + 1;
        const bool in_first = target<copy, in_second = target> second && target < second + copy;
        if (!in_first && !in_second) return;
        (in_first ? loss.first : loss.second) -= static_cast<double>(
            token_logprob(model.kernels(), logits, model.config().vocab_size, tokens[static_cast<size_t>(target)]));
      },
      nullptr);
  return loss;
}

}  // namespace

void RecallOptions::check() const {
  const auto at_least = [](const char* name, int64_t value, int64_t low) {
    if (value < low) throw InvalidArgument(error_text(name, std::to_string(low) + " or more", std::to_string(value)));
  };
  at_least("copy-tokens", copy_tokens, 2);
  at_least("gap-tokens", gap_tokens, 0);
  at_least("trials", trials, 1);
  at_least("probes", probes, 0);
}

RecallResult recall(const Model& model, const Tokenizer& tokenizer, std::span<const int32_t> text,
                    const RecallOptions& options, Workspace& workspace, const EvaluationProgress& progress) {
  options.check();
  const int64_t needed = options.copy_tokens + options.gap_tokens;
  const int64_t spare = static_cast<int64_t>(text.size()) - needed;
  if (spare < 1) {
    throw InvalidArgument(error_text("text", "more than " + std::to_string(needed) + " tokens",
                                     std::to_string(text.size()), "a longer --data, or fewer --copy-tokens"));
  }
  RecallResult result;
  double first = 0, second = 0;
  const int64_t total = options.trials + options.probes;
  for (int64_t trial = 0; trial < options.trials; ++trial) {
    const auto begin = static_cast<size_t>(spare * trial / options.trials);
    const auto passage = text.subspan(begin, static_cast<size_t>(options.copy_tokens));
    const auto gap = text.subspan(begin + passage.size(), static_cast<size_t>(options.gap_tokens));
    const CopyLoss loss = copy_loss(model, passage, gap, workspace);
    first += loss.first;
    second += loss.second;
    result.n += options.copy_tokens - 1;
    if (progress) progress(trial + 1, total);
  }
  result.first_copy_perplexity = std::exp(first / static_cast<double>(result.n));
  result.second_copy_perplexity = std::exp(second / static_cast<double>(result.n));

  Generator generator(model, &tokenizer, workspace);
  Random random(options.seed);
  for (int64_t i = 0; i < options.probes; ++i) {
    const auto gap = gap_of(text, options, i);
    result.copy_share += answered_share(generator, copy_probe(tokenizer, gap, random));
    result.lookup_share += answered_share(generator, lookup_probe(tokenizer, gap, random)) == 1.0;
    if (progress) progress(options.trials + i + 1, total);
  }
  const double probes = static_cast<double>(std::max<int64_t>(1, options.probes));
  result.copy_share /= probes;
  result.lookup_share /= probes;
  return result;
}

}  // namespace espalier
