// espalier <verb> MODEL [options]: exit 0 ok, 1 failed, 2 usage, 130 interrupted.
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <iostream>

#include "cli/verb.h"

namespace {

using espalier::kExitFailed;
using espalier::kExitUsage;

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

int run(const std::function<int()>& action, const std::string& verb) {
  try {
    return flushed(action());
  } catch (const espalier::UsageError& error) {
    return fail_usage(verb, error.what());
  } catch (const std::bad_alloc&) {
    return fail(kExitFailed, "[memory] expected enough of it, got none; try a smaller --max-context");
  } catch (const std::exception& error) {
    return fail(kExitFailed, error.what());
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_DFL);  // `espalier … | head` ends quietly
  std::signal(SIGXFSZ, SIG_IGN);  // a file size limit is an error like a full disk
  CLI::App app{
      "Espalier: linear-attention LLMs, made from pretrained ones and decoded with lossless tree speculation.\n"
      "\n"
      "  espalier generate models/smollm2-135m-instruct.gguf --chat --prompt \"Why is the sky blue?\"\n"
      "  espalier <verb> --help        explains a verb and its options\n"
      "\n"
      "Exit codes: 0 ok, 1 failed, 2 usage, 130 interrupted.",
      "espalier"};
  app.set_version_flag("--version", "espalier 0.1.0");
  app.require_subcommand(1);
  app.get_formatter()->column_width(34);
  std::function<int()> action;
  std::string chosen, known;
  for (const espalier::Verb& verb : espalier::verbs()) {
    CLI::App* command = app.add_subcommand(verb.name, verb.summary);
    command->get_formatter()->column_width(34);
    command->callback([&action, own = verb.add(*command)] { action = own; });
    known += (known.empty() ? "" : ", ") + std::string(verb.name);
    if (argc > 1 && argv[1] == std::string(verb.name)) chosen = verb.name;
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
  return run(action, chosen);
}
