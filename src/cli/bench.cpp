#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>

#include "cli/bench_questions.h"
#include "cli/model_arguments.h"
#include "core/progress.h"
#include "evaluation/step_times.h"

namespace espalier {
namespace {

struct Arguments {
  ModelArguments model;
  DecodingArguments decoding;
  QuestionsArguments questions;
  StepTimesOptions options;
  bool json = false;
};

void print_json(const Arguments& a, const Model& model, const StepTimes& times, int threads) {
  nlohmann::json verify = nlohmann::json::object();
  nlohmann::json roofline = nlohmann::json::object();
  for (const auto& [nodes, ms] : times.verify_ms) verify[std::to_string(nodes)] = ms;
  for (const auto& [nodes, ms] : times.roofline_ms) roofline[std::to_string(nodes)] = ms;
  const nlohmann::json result = {{"prefill_tokens_per_second", times.prefill_tokens_per_second},
                                 {"decode_tokens_per_second", times.decode_tokens_per_second},
                                 {"verify_ms", verify},
                                 {"roofline_ms", roofline},
                                 {"peak_multiply_adds_per_second", times.peak},
                                 {"attention_peak_multiply_adds_per_second", times.attention_peak},
                                 {"decode_bandwidth_share", times.decode_bandwidth_share},
                                 {"read_bandwidth_bytes_per_second", times.bandwidth},
                                 {"weights", a.model.weights},
                                 {"weight_bytes", model.weight_bytes()},
                                 {"attention", model.config().attention[0]},
                                 {"threads", threads},
                                 {"isa", isa_name(model.kernels().isa)}};
  std::cout << result.dump() << std::endl;
}

void print_text(const Arguments& a, const Model& model, const StepTimes& times, int threads) {
  std::printf("%s weights, %s, %d threads (%s); medians of %ld rounds\n", a.model.weights.c_str(),
              model.config().attention[0].c_str(), threads, std::string(isa_name(model.kernels().isa)).c_str(),
              static_cast<long>(a.options.repeats));
  std::printf("prefill %-4ld   %8.1f tokens/s\n", static_cast<long>(a.options.prefill_tokens),
              times.prefill_tokens_per_second);
  std::printf("decode         %8.1f tokens/s, %.0f %% of the %.1f GB/s that can be read\n",
              times.decode_tokens_per_second, 100 * times.decode_bandwidth_share, times.bandwidth / 1e9);
  for (const auto& [nodes, ms] : times.verify_ms) {
    std::printf("step of %-2ld     %8.2f ms, %.2fx a step of 1, %.2fx the roofline\n", static_cast<long>(nodes), ms,
                ms / times.verify_ms.at(1), ms / times.roofline_ms.at(nodes));
  }
}

int run(const Arguments& a) {
  if (!a.questions.prompts.empty()) {
    QuestionsArguments questions = a.questions;
    questions.json = a.json;
    return answer_questions(questions, a.model, a.decoding);
  }
  if (!a.decoding.draft_head.empty() || !a.decoding.draft_model.empty() || !a.decoding.ngram_table.empty()) {
    throw UsageError(error_text("bench", "--prompts beside what drafts come from", "none"));
  }
  const ModelFiles files = a.model.open();
  const auto model = a.model.load(files, a.options.prefill_tokens + a.options.decode_tokens);
  const int threads = a.model.thread_count();
  Workspace workspace(threads);
  StepTimesOptions options = a.options;
  // Of a file's own types the smallest: the others' products are no faster.
  options.weights = a.model.weights == "own" ? WeightType::kInt4Min : weight_type_by_name(a.model.weights);
  const StepTimes times = measure_step_times(*model, options, workspace, progress_function("bench"));
  a.json ? print_json(a, *model, times, threads) : print_text(a, *model, times, threads);
  return kExitOk;
}

Action add(CLI::App& app) {
  const auto a = std::make_shared<Arguments>();
  app.footer(
      "Prefill, decoding, and the step that verifies a tree of 1 to 64 nodes; medians. Decoding stands beside the "
      "speed "
      "at which this\n"
      "machine reads memory, steps beside their roofline: the longer of reading weights and state at that speed and "
      "of\n"
      "their products at the speed of weights in the cache (attention's at that of f32).\n\n"
      "With --prompts it answers questions instead, with and without speculation, and compares the two; the options "
      "from "
      "--max-tokens on are the answers'.\n\n"
      "  espalier bench MODEL --weights bf16 --threads 2\n"
      "  espalier bench MODEL --prompts benchmarks/questions.jsonl --answers answers");
  a->model.add_to(app);
  app.add_option("--prefill-tokens", a->options.prefill_tokens, "Tokens of the prompt")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--decode-tokens", a->options.decode_tokens, "Tokens decoded in each round")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--repeats", a->options.repeats, "Rounds")->check(CLI::Range(1, 10000))->capture_default_str();
  app.add_flag("--json", a->json, "One JSON object");
  auto* prompts = app.add_option(
      "--prompts", a->questions.prompts,
      R"(JSON lines {"question_id": …, "category": …, "turns": [text, …]} as Spec-Bench has them; - is stdin)");
  app.add_option("--answers", a->questions.answers, "With --prompts: a folder for the answers, in Spec-Bench's schema")
      ->needs(prompts);
  a->decoding.add_to(app);
  return [a] { return run(*a); };
}

}  // namespace

Verb bench_verb() {
  return {"bench", "Speed of prefill, decoding and tree verification", add};
}

}  // namespace espalier
