#include "cli/verbs.h"

#include "program/training_verbs.h"

namespace espalier {

// One line per verb, defined in a file of its name; in the order of --help.
#define ESPALIER_VERBS(each)                                                                                    \
  each(generate_verb) each(chat_verb) each(score_verb) each(encode_verb) each(tokenize_verb) each(inspect_verb) \
      each(evaluate_verb) each(bench_verb) each(save_verb) each(ngram_verb)

#define ESPALIER_DECLARE(verb) Verb verb();
ESPALIER_VERBS(ESPALIER_DECLARE)
#undef ESPALIER_DECLARE

std::vector<Verb> verbs() {
#define ESPALIER_LIST(verb) verb(),
  std::vector<Verb> all = {ESPALIER_VERBS(ESPALIER_LIST)};
#undef ESPALIER_LIST
  for (const VerbName& verb : kTrainingVerbs) all.push_back(training_verb(verb.name, verb.summary));
  return all;
}

}  // namespace espalier
