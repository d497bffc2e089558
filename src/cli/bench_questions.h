// `bench --prompts`: questions of several kinds, answered with and without speculation.
#pragma once

#include <string>

#include "cli/decoding_arguments.h"
#include "cli/model_arguments.h"

namespace espalier {

struct QuestionsArguments {
  std::string prompts;  // JSON lines {"question_id": …, "category": …, "turns": [text, …]}, as Spec-Bench has them
  std::string answers;  // a folder for the answers; empty: none
  bool json = false;
};

// Answers every question plainly and with speculation, turn about, and prints a line per category: tokens per step,
// how much longer a step takes, and the median of the paired ratios of decoding times. Writes ANSWERS/off.jsonl and
// ANSWERS/MODE.jsonl in Spec-Bench's schema. Throws InvalidArgument for a malformed line, naming it; Internal when a
// text differs.
int answer_questions(const QuestionsArguments& arguments, const ModelArguments& model_arguments,
                     const DecodingArguments& decoding);

}  // namespace espalier
