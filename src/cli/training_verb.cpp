#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "cli/verbs.h"
#include "core/error.h"

namespace espalier {
namespace {

[[noreturn]] void run_train(const std::string& verb, std::vector<std::string> arguments) {
  const std::filesystem::path program =
      std::filesystem::read_symlink("/proc/self/exe").parent_path() / "espalier-train";
  if (!std::filesystem::exists(program)) {
    throw NotSupported(error_text(verb, program.string(), "none", "a build with -DESPALIER_TRAIN=ON (make build)"));
  }
  std::vector<std::string> words = {program.string(), verb};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  ::execv(program.c_str(), argv.data());
  throw NotSupported(error_text(verb, "a program that can be run", std::strerror(errno), "make build"));
}

}  // namespace

Verb training_verb(const std::string& name, const std::string& summary) {
  return {name, summary, [](CLI::App& app) -> Action {
            app.set_help_flag();
            app.prefix_command();
            return [&app]() -> int { run_train(app.get_name(), app.remaining()); };
          }};
}

}  // namespace espalier
