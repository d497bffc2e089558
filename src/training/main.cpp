// espalier-train <verb>: the verbs that need libtorch. `espalier` starts it, as git does with its parts.
#include <cstdio>
#include <map>

#include "core/error.h"
#include "training/verbs/verb.h"

namespace {

constexpr int kFailed = 1, kUsage = 2;

struct Verb {
  const char* name;
  const char* summary;
  std::function<int()> (*add)(CLI::App& app, const std::string& command);
};
constexpr Verb kVerbs[] = {
    {"linearize", "Turn a softmax model into a linear-attention model", espalier::add_linearize},
    {"draft", "Train a draft head on a model's own texts", espalier::add_draft},
};

int fail(int code, std::string text) {
  for (char& c : text) {
    if (c == '\n' || c == '\r') c = ' ';
  }
  std::fprintf(stderr, "error: %s\n", text.c_str());
  return code;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"The training verbs of Espalier", "espalier"};
  app.require_subcommand(1);
  app.get_formatter()->column_width(34);
  std::string command = "espalier";
  for (int i = 1; i < argc; ++i) command += " " + std::string(argv[i]);
  std::map<const CLI::App*, std::function<int()>> actions;
  for (const Verb& verb : kVerbs) {
    CLI::App* sub = app.add_subcommand(verb.name, verb.summary);
    sub->get_formatter()->column_width(34);
    actions[sub] = verb.add(*sub, command);
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& request) {
    return app.exit(request);
  } catch (const CLI::ParseError& error) {
    return fail(kUsage, "[usage] " + std::string(error.what()) + "; try espalier " +
                            std::string(argc > 1 ? argv[1] : "") + " --help");
  }
  try {
    return actions.at(app.get_subcommands().front())();
  } catch (const std::bad_alloc&) {
    return fail(kFailed, "[memory] expected enough of it, got none; try a smaller context or batch");
  } catch (const espalier::Error& error) {
    return fail(kFailed, error.what());
  } catch (const std::exception& error) {  // libtorch's messages carry a stack trace after their first line
    const std::string text = error.what();
    return fail(kFailed, text.substr(0, text.find('\n')));
  }
}
