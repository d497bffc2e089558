#include "cli/bench_questions.h"

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/error.h"
#include "core/file.h"
#include "core/hash.h"
#include "core/progress.h"
#include "decoding/state_file.h"
#include "evaluation/median.h"
#include "program/interrupt.h"

namespace espalier {
namespace {

struct Question {
  int64_t id = 0;
  std::string category;
  std::vector<std::string> turns;
};

using Answer = std::vector<GenerateResult>;  // one per turn

struct Answered {
  const Question* question;
  Answer plain, speculated;
};

Question read_question(const std::string& text, const std::string& where) {
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, false);
  Question question;
  bool valid = json.is_object() && json.value("question_id", nlohmann::json()).is_number_integer() &&
               json.value("category", nlohmann::json()).is_string() && json.value("turns", nlohmann::json()).is_array();
  if (valid) {
    question = {.id = json["question_id"], .category = json["category"], .turns = {}};
    for (const nlohmann::json& turn : json["turns"]) {
      valid = valid && turn.is_string();
      if (valid) question.turns.push_back(turn);
    }
  }
  if (!valid || question.turns.empty()) {
    throw InvalidArgument(
        error_text(where, R"({"question_id": number, "category": text, "turns": [text, …]})", "something else"));
  }
  return question;
}

std::vector<Question> read_questions(const std::string& path) {
  std::istringstream lines(read_input(path));
  std::vector<Question> questions;
  std::string line;
  for (int64_t number = 1; std::getline(lines, line); ++number) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    questions.push_back(read_question(line, path + ":" + std::to_string(number)));
  }
  if (questions.empty()) throw InvalidArgument(error_text(path, "at least one question", "none"));
  return questions;
}

double steps_ms(const Answer& answer) {
  double ms = 0;
  for (const GenerateResult& turn : answer) ms += turn.stats.decode_ms;
  return ms;
}

int64_t steps(const Answer& answer) {
  int64_t count = 0;
  for (const GenerateResult& turn : answer) count += turn.stats.steps;
  return count;
}

// Output tokens after each turn's first, which the prompt's step gives.
int64_t decoded(const Answer& answer) {
  int64_t count = 0;
  for (const GenerateResult& turn : answer) count += std::max<int64_t>(0, std::ssize(turn.tokens) - 1);
  return count;
}

struct Summary {
  int64_t questions = 0, decoded = 0, steps = 0, nodes = 0;
  double tokens_per_second = 0, speculated_tokens_per_second = 0;
  double tokens_per_step = 0, nodes_per_step = 0;
  double step_ratio = 0;                   // a step with speculation / a plain one: t(N) / t(1)
  double ratio = 0, lower = 0, upper = 0;  // median and quartiles of the paired ratios
};

Summary summarize(const std::vector<const Answered*>& answered) {
  Summary s;
  double plain_ms = 0, ms = 0;
  std::vector<double> ratios;
  for (const Answered* a : answered) {
    if (decoded(a->plain) == 0) continue;
    ++s.questions;
    s.decoded += decoded(a->plain);
    s.steps += steps(a->speculated);
    for (const GenerateResult& turn : a->speculated) s.nodes += turn.stats.drafted + turn.stats.steps;
    plain_ms += steps_ms(a->plain);
    ms += steps_ms(a->speculated);
    ratios.push_back(steps_ms(a->plain) / steps_ms(a->speculated));
  }
  if (s.questions == 0) return s;
  const auto n = static_cast<double>(s.decoded), count = static_cast<double>(s.steps);
  s.tokens_per_second = n / plain_ms * 1e3;
  s.speculated_tokens_per_second = n / ms * 1e3;
  s.tokens_per_step = n / count;
  s.nodes_per_step = static_cast<double>(s.nodes) / count;
  s.step_ratio = (ms / count) / (plain_ms / n);
  s.ratio = median(ratios);
  s.lower = quantile(ratios, 0.25);
  s.upper = quantile(ratios, 0.75);
  return s;
}

nlohmann::json json_of(const Summary& s) {
  return {{"questions", s.questions},
          {"tokens", s.decoded},
          {"tokens_per_second", s.tokens_per_second},
          {"speculated_tokens_per_second", s.speculated_tokens_per_second},
          {"tokens_per_step", s.tokens_per_step},
          {"nodes_per_step", s.nodes_per_step},
          {"step_ratio", s.step_ratio},
          {"ratio", s.ratio},
          {"ratio_quartiles", {s.lower, s.upper}}};
}

void print(const std::map<std::string, Summary>& table, const DecodingArguments& decoding, bool as_json) {
  if (as_json) {
    nlohmann::json json = {{"speculate", decoding.speculate}, {"temperature", decoding.options.sampler.temperature}};
    for (const auto& [kind, summary] : table) json["categories"][kind] = json_of(summary);
    std::cout << json.dump() << std::endl;
    return;
  }
  std::printf("kind\tn\ttokens/s\tspeculated\ttokens/step\tnodes\tt(N)/t(1)\tratio\tquartiles\n");
  for (const auto& [kind, s] : table) {
    std::printf("%s\t%ld\t%.1f\t%.1f\t%.2f\t%.1f\t%.2f\t%.2f\t%.2f-%.2f\n", kind.c_str(),
                static_cast<long>(s.questions), s.tokens_per_second, s.speculated_tokens_per_second, s.tokens_per_step,
                s.nodes_per_step, s.step_ratio, s.ratio, s.lower, s.upper);
  }
}

// A line of Spec-Bench's answer files.
nlohmann::json answer_json(const Question& question, const Answer& answer, const std::string& model) {
  nlohmann::json choice = {{"index", 0},
                           {"turns", nlohmann::json::array()},
                           {"decoding_steps", nlohmann::json::array()},
                           {"new_tokens", nlohmann::json::array()},
                           {"wall_time", nlohmann::json::array()},
                           {"accept_lengths", nlohmann::json::array()}};
  for (const GenerateResult& turn : answer) {
    choice["turns"].push_back(turn.text);
    choice["decoding_steps"].push_back(turn.stats.steps);
    choice["new_tokens"].push_back(turn.tokens.size());
    choice["wall_time"].push_back((turn.stats.prefill_ms + turn.stats.decode_ms) / 1e3);
    for (const int32_t tokens : turn.stats.step_tokens) choice["accept_lengths"].push_back(tokens);
  }
  const std::string id = model + "/" + std::to_string(question.id) + "/" + choice["turns"].dump();
  return {{"question_id", question.id},
          {"category", question.category},
          {"answer_id", sha256(std::as_bytes(std::span(id))).substr(0, 22)},
          {"model_id", model},
          {"choices", {choice}},
          {"tstamp", std::time(nullptr)}};
}

void write_answers(const std::filesystem::path& folder, const std::vector<Answered>& answered, const std::string& model,
                   const std::string& mode) {
  std::string plain, speculated;
  for (const Answered& a : answered) {
    const auto line = [](const nlohmann::json& json) {
      return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
    };
    plain += line(answer_json(*a.question, a.plain, model + "-off"));
    speculated += line(answer_json(*a.question, a.speculated, model + "-" + mode));
  }
  write_file(folder / "off.jsonl", plain);
  write_file(folder / (mode + ".jsonl"), speculated);
}

// "smollm2" of "models/smollm2.gguf" and of "models/smollm2/".
std::string model_name(const std::string& path) {
  std::string name = (std::filesystem::path(path) / "").parent_path().filename().string();
  if (name.ends_with(".gguf")) name.resize(name.size() - 5);
  return name;
}

class Interview {
 public:
  Interview(const DecodingArguments& decoding, const ModelFiles& files, const Tokenizer& tokenizer, Generator& plain,
            Generator& speculating)
      : decoding_(decoding),
        format_(decoding.format(files)),
        options_(decoding.complete(files)),
        tokenizer_(tokenizer),
        plain_(plain),
        speculating_(speculating) {}

  // Both ways, the one that comes first alternating with `turn`. Throws Internal when the texts differ.
  Answered ask(const Question& question, size_t turn) {
    Answered answered{.question = &question, .plain = {}, .speculated = {}};
    const auto both = {turn % 2 == 1, turn % 2 == 0};
    for (const bool speculate : both) (speculate ? answered.speculated : answered.plain) = answer(question, speculate);
    for (size_t i = 0; i < answered.plain.size(); ++i) {
      if (interrupted() || answered.plain[i].tokens == answered.speculated[i].tokens) continue;
      throw Internal(error_text("question " + std::to_string(question.id), "the text of plain decoding", "another"));
    }
    return answered;
  }

 private:
  Answer answer(const Question& question, bool speculate) {
    Answer answer;
    SavedState conversation;
    for (const std::string& turn : question.turns) {
      GenerateRequest request =
          request_after(conversation, decoding_.message_tokens(tokenizer_, format_, turn, conversation.tokens));
      request.options = options_;
      if (!speculate) request.options.speculation.mode = SpeculationMode::kOff;
      answer.push_back((speculate ? speculating_ : plain_).generate(request, &interrupted()));
      conversation = state_after(request, answer.back());
      answer.back().state = {};  // states of many questions would fill the memory
    }
    return answer;
  }

  const DecodingArguments& decoding_;
  ChatFormat format_;
  GenerateOptions options_;
  const Tokenizer& tokenizer_;
  Generator& plain_;
  Generator& speculating_;
};

}  // namespace

int answer_questions(const QuestionsArguments& arguments, const ModelArguments& model_arguments,
                     const DecodingArguments& decoding) {
  if (decoding.speculate == "off") throw UsageError(error_text("--speculate", "ngram or auto beside --prompts", "off"));
  const std::vector<Question> questions = read_questions(arguments.prompts);
  const ModelFiles files = model_arguments.open();
  const auto tokenizer = required_tokenizer(files);
  if (!arguments.answers.empty()) std::filesystem::create_directories(arguments.answers);
  const auto model = model_arguments.load(files, decoding.options.max_context);
  Workspace workspace(model_arguments.thread_count());
  const LoadedDrafts drafts = decoding.drafts(model_arguments, files, *tokenizer, *model);
  Generator plain(*model, tokenizer.get(), workspace);
  Generator speculating(*model, tokenizer.get(), workspace, drafts.sources());
  const StepTimesOfUser step_times(speculating, *model, model_arguments);
  Interview interview(decoding, files, *tokenizer, plain, speculating);
  install_interrupt();
  std::vector<Answered> answered;
  {
    const auto progress = progress_function("questions");
    for (const Question& question : questions) {
      try {
        Answered both = interview.ask(question, answered.size());
        if (interrupted()) break;
        answered.push_back(std::move(both));
      } catch (const InvalidArgument& error) {  // too long, for one: the others are not lost
        model_arguments.log().warning("question " + std::to_string(question.id) + " left out: " + error.what());
      }
      progress(static_cast<int64_t>(answered.size()), static_cast<int64_t>(questions.size()));
    }
  }
  std::map<std::string, std::vector<const Answered*>> kinds;
  for (const Answered& a : answered) kinds[a.question->category].push_back(&a);
  std::map<std::string, Summary> summaries;
  for (const auto& [kind, of_kind] : kinds) summaries[kind] = summarize(of_kind);
  print(summaries, decoding, arguments.json);
  if (!arguments.answers.empty()) {
    write_answers(arguments.answers, answered, model_name(model_arguments.model), decoding.speculate);
  }
  return interrupted() ? kExitInterrupted : kExitOk;
}

}  // namespace espalier
