// espalier-train <verb>: the verbs that need libtorch. `espalier` starts it, as git does with its parts.
#include "program/program.h"
#include "program/training_verbs.h"
#include "training/verbs/verbs.h"

namespace {

// `command` is the line that adapters record.
espalier::Verb verb(const espalier::VerbName& name, espalier::Action (*add)(CLI::App&, const std::string&),
                    const std::string& command) {
  return {name.name, name.summary, [add, command](CLI::App& app) { return add(app, command); }};
}

}  // namespace

int main(int argc, char** argv) {
  std::string command = "espalier";
  for (int i = 1; i < argc; ++i) command += " " + std::string(argv[i]);
  const std::vector<espalier::Verb> verbs = {verb(espalier::kLinearizeVerb, espalier::add_linearize, command),
                                             verb(espalier::kDraftVerb, espalier::add_draft, command)};
  return espalier::run_program("The training verbs of Espalier", verbs, "a smaller context or batch", argc, argv);
}
