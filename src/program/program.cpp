#include "program/program.h"

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <iostream>
#include <new>

#include "espalier/version.h"

namespace espalier {
namespace {

// Wide enough for the longest option beside its text.
constexpr int kHelpColumn = 34;

int fail(int code, std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](char c) { return c == '\n' || c == '\r'; }, ' ');
  std::fprintf(stderr, "error: %s\n", text.c_str());
  return code;
}

int fail_usage(const std::string& verb, const std::string& text) {
  return fail(kExitUsage, "[usage] " + text + "; try espalier " + (verb.empty() ? "" : verb + " ") + "--help");
}

// Results that could not be written (a full disk) are a failure. A broken pipe has ended the program before.
int flushed(int code) {
  std::cout.flush();
  if (std::fflush(stdout) == 0 && std::cout.good()) return code;
  return fail(kExitFailed, "[stdout] expected room to write, got none; try another disk");
}

int run(const Action& action, const std::string& verb, const std::string& memory_hint) {
  try {
    return flushed(action());
  } catch (const UsageError& error) {
    return fail_usage(verb, error.what());
  } catch (const std::bad_alloc&) {
    return fail(kExitFailed, "[memory] expected enough of it, got none; try " + memory_hint);
  } catch (const Error& error) {
    return fail(kExitFailed, error.what());
  } catch (const std::exception& error) {  // libtorch's messages carry a stack trace after their first line
    const std::string text = error.what();
    return fail(kExitFailed, text.substr(0, text.find('\n')));
  }
}

}  // namespace

int run_program(const std::string& description, const std::vector<Verb>& verbs, const std::string& memory_hint,
                int argc, char** argv) {
  std::signal(SIGPIPE, SIG_DFL);  // `espalier … | head` ends quietly
  std::signal(SIGXFSZ, SIG_IGN);  // a file size limit is an error like a full disk
  CLI::App app{description, "espalier"};
  app.set_version_flag("--version", "espalier " ESPALIER_VERSION);
  app.require_subcommand(1);
  app.get_formatter()->column_width(kHelpColumn);
  Action action;
  std::string chosen, known;
  for (const Verb& verb : verbs) {
    CLI::App* command = app.add_subcommand(verb.name, verb.summary);
    command->get_formatter()->column_width(kHelpColumn);
    command->callback([&action, own = verb.add(*command)] { action = own; });
    known += (known.empty() ? "" : ", ") + verb.name;
    if (argc > 1 && argv[1] == verb.name) chosen = verb.name;
  }
  if (chosen.empty() && (argc < 2 || argv[1][0] != '-')) {
    return fail_usage(
        "", "expected a verb out of " + known + ", got " + (argc < 2 ? "none" : "'" + std::string(argv[1]) + "'"));
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& request) {
    return app.exit(request);
  } catch (const CLI::ParseError& error) {
    return fail_usage(chosen, error.what());
  }
  return run(action, chosen, memory_hint);
}

}  // namespace espalier
