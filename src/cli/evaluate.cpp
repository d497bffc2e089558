#include <chrono>
#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>

#include "cli/model_arguments.h"
#include "core/progress.h"
#include "evaluation/agreement.h"
#include "evaluation/perplexity.h"
#include "evaluation/recall.h"

namespace espalier {
namespace {

struct Arguments {
  ModelArguments model;
  std::string task = "perplexity", data;
  int64_t tokens = 0;  // 0: all
  PerplexityOptions perplexity;
  RecallOptions recall;
  bool json = false;
};

// What a task found: `metric` for scripts, `text` for people.
struct Findings {
  nlohmann::json metric;
  int64_t n = 0;
  std::string text;
};

template <class... Values>
std::string format(const char* pattern, Values... values) {
  char text[256];
  std::snprintf(text, sizeof(text), pattern, values...);
  return text;
}

nlohmann::json ranges_json(const std::vector<LossRange>& ranges) {
  nlohmann::json json = nlohmann::json::array();
  for (const LossRange& range : ranges) {
    if (range.n == 0) continue;
    json.push_back({{"from", range.begin}, {"to", range.end}, {"n", range.n}, {"perplexity", range.perplexity()}});
  }
  return json;
}

std::string ranges_text(const char* title, const std::vector<LossRange>& ranges) {
  std::string text;
  for (const LossRange& range : ranges) {
    if (range.n == 0) continue;
    text += text.empty() ? format("%s\n", title) : "";
    text += format("  %6ld - %-6ld %10.3f\n", static_cast<long>(range.begin), static_cast<long>(range.end - 1),
                   range.perplexity());
  }
  return text;
}

Findings run_perplexity(const Arguments& a, const Model& model, std::span<const int32_t> tokens, Workspace& workspace) {
  PerplexityOptions options = a.perplexity;
  options.group = attention_group(model);
  const PerplexityResult result = perplexity(model, tokens, options, workspace, progress_function("perplexity"));
  Findings found{.metric = {{"perplexity", result.perplexity()},
                            {"nll", result.loss / static_cast<double>(result.n)},
                            {"by_position", ranges_json(result.by_position)},
                            {"by_offset", ranges_json(result.by_offset)}},
                 .n = result.n};
  found.text = format("perplexity %.4f over %ld tokens\n", result.perplexity(), static_cast<long>(result.n)) +
               ranges_text("by position in the window", result.by_position) +
               ranges_text("by offset in the group", result.by_offset);
  return found;
}

Findings run_recall(const Arguments& a, const Model& model, const Tokenizer& tokenizer, std::span<const int32_t> tokens,
                    Workspace& workspace) {
  const RecallResult result = recall(model, tokenizer, tokens, a.recall, workspace, progress_function("recall"));
  return {.metric = {{"first_copy_perplexity", result.first_copy_perplexity},
                     {"second_copy_perplexity", result.second_copy_perplexity},
                     {"copy_share", result.copy_share},
                     {"lookup_share", result.lookup_share}},
          .n = result.n,
          .text = format("perplexity of a passage %.3f, of its repetition after %ld tokens %.3f\n",
                         result.first_copy_perplexity, static_cast<long>(a.recall.gap_tokens),
                         result.second_copy_perplexity) +
                  format("lists copied %.1f %%, codes looked up %.1f %%\n", 100 * result.copy_share,
                         100 * result.lookup_share)};
}

// The teacher is the same base with softmax in every layer.
std::unique_ptr<Model> load_teacher(const Arguments& a) {
  ModelArguments teacher = a.model;
  teacher.adapter.clear();
  teacher.attention = "softmax";
  return teacher.load(teacher.open(), a.perplexity.windows.context);
}

Findings run_agreement(const Arguments& a, const Model& model, std::span<const int32_t> tokens, Workspace& workspace) {
  const auto teacher = load_teacher(a);
  const AgreementResult result =
      agreement(*teacher, model, tokens, a.perplexity.windows, workspace, progress_function("agreement"));
  return {.metric = {{"top1_agreement", result.top1_agreement()},
                     {"kl", result.mean_kl()},
                     {"perplexity", result.student_perplexity()},
                     {"teacher_perplexity", result.teacher_perplexity()}},
          .n = result.n,
          .text = format("same likeliest token %.2f %%, KL %.4f, perplexity %.4f (teacher %.4f), %ld tokens\n",
                         100 * result.top1_agreement(), result.mean_kl(), result.student_perplexity(),
                         result.teacher_perplexity(), static_cast<long>(result.n))};
}

int run(const Arguments& a) {
  const ModelFiles files = a.model.open();
  const auto tokenizer = required_tokenizer(files);
  std::vector<int32_t> tokens = tokenizer->encode(read_input(a.data));
  if (a.tokens > 0 && a.tokens < static_cast<int64_t>(tokens.size())) tokens.resize(static_cast<size_t>(a.tokens));
  const auto model = a.model.load(files, a.perplexity.windows.context);
  Workspace workspace(a.model.thread_count());
  const auto start = std::chrono::steady_clock::now();
  const Findings found = a.task == "perplexity" ? run_perplexity(a, *model, tokens, workspace)
                         : a.task == "recall"   ? run_recall(a, *model, *tokenizer, tokens, workspace)
                                                : run_agreement(a, *model, tokens, workspace);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (a.json) {
    const nlohmann::json result = {{"task", a.task}, {"metric", found.metric}, {"n", found.n}, {"seconds", seconds}};
    std::cout << result.dump() << std::endl;
  } else {
    std::cout << found.text << std::flush;
  }
  return kExitOk;
}

Action add(CLI::App& app) {
  const auto a = std::make_shared<Arguments>();
  app.footer(
      "  perplexity   e^(mean negative log-likelihood) over consecutive windows of --context tokens; the first token "
      "of "
      "a window is not\n"
      "               scored. A smaller --stride lets windows overlap: each token is scored once.\n"
      "  recall       perplexity of a passage that comes a second time, and greedy probes: a list to copy, codes to "
      "look up\n"
      "  agreement    the same text read by the softmax model: same likeliest token, KL divergence\n\n"
      "  espalier evaluate MODEL --task perplexity --data book.txt --context 1024\n"
      "  espalier evaluate MODEL --adapter adapters/lolcats --task agreement --data book.txt --tokens 8192");
  a->model.add_to(app);
  app.add_option("--task", a->task, "perplexity, recall or agreement")
      ->check(CLI::IsMember({"perplexity", "recall", "agreement"}))
      ->capture_default_str();
  app.add_option("--data", a->data, "A text file; - is stdin")->required();
  app.add_option("--tokens", a->tokens, "Tokens of the text to use; default: all")->check(CLI::PositiveNumber);
  app.add_option("--context", a->perplexity.windows.context, "Tokens of a window")
      ->check(CLI::Range(int64_t{2}, int64_t{1} << 30))
      ->capture_default_str();
  app.add_option("--stride", a->perplexity.windows.stride, "Tokens from window to window; default: --context")
      ->check(CLI::PositiveNumber);
  app.add_option("--bucket", a->perplexity.bucket, "perplexity: positions of a range")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--copy-tokens", a->recall.copy_tokens, "recall: tokens of a passage")
      ->check(CLI::Range(int64_t{2}, int64_t{1} << 30))
      ->capture_default_str();
  app.add_option("--gap-tokens", a->recall.gap_tokens, "recall: tokens in between")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--trials", a->recall.trials, "recall: passages")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--probes", a->recall.probes, "recall: probes of each kind")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--seed", a->recall.seed, "recall: of the probes")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_flag("--json", a->json, "One JSON object: task, metric, n, seconds");
  return [a] {
    if (a->perplexity.windows.stride > a->perplexity.windows.context) {
      throw UsageError("--stride: expected at most --context " + std::to_string(a->perplexity.windows.context) +
                       ", got " + std::to_string(a->perplexity.windows.stride));
    }
    return run(*a);
  };
}

}  // namespace

Verb evaluate_verb() {
  return {"evaluate", "Perplexity, recall, agreement with the softmax model", add};
}

}  // namespace espalier
