// espalier-train as a program: exit codes and one-line errors.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstdio>
#include <string>

#include "core/file.h"
#include "support/tiny_run_train.h"

namespace espalier {
namespace {

struct Outcome {
  int code;
  std::string error;
};

// Runs the program with `arguments` and catches stderr.
Outcome run(const std::string& arguments) {
  FILE* pipe = popen((std::string(ESPALIER_TRAIN_BINARY) + " " + arguments + " 2>&1 >/dev/null").c_str(), "r");
  Outcome outcome{-1, ""};
  char part[256];
  while (std::fgets(part, sizeof(part), pipe)) outcome.error += part;
  const int status = pclose(pipe);
  outcome.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return outcome;
}

void expect_error(const std::string& arguments, int code, const std::string& part) {
  const Outcome outcome = run(arguments);
  EXPECT_EQ(outcome.code, code) << arguments << "\n" << outcome.error;
  EXPECT_EQ(std::count(outcome.error.begin(), outcome.error.end(), '\n'), 1) << outcome.error;
  EXPECT_EQ(outcome.error.substr(0, 7), "error: ");
  EXPECT_NE(outcome.error.find(part), std::string::npos) << outcome.error;
}

TEST(Command, SaysWhatIsWrongInOneLine) {
  const testing::TemporaryFolder folder;
  const std::string path = folder.path().string();
  write_file(folder.path() / "text.txt", "some text");
  write_file(folder.path() / "bad.gguf", "GGUF but not really");
  const std::string rest = " --data " + path + "/text.txt --out " + path + "/out";
  expect_error("linearize", 2, "model");
  expect_error("linearize x.gguf --nonsense" + rest, 2, "nonsense");
  expect_error("linearize x.gguf --context -5" + rest, 2, "context");
  expect_error("linearize x.gguf --loss mse" + rest, 2, "loss");
  expect_error("linearize " + path + "/none.gguf" + rest, 1, "none.gguf");
  expect_error("linearize " + path + "/bad.gguf" + rest, 1, "bad.gguf");
  write_file(folder.path() / "r.toml", "contxt = 3\n");
  expect_error("linearize " + path + "/bad.gguf --recipe " + path + "/r.toml" + rest, 1, "contxt");
  EXPECT_FALSE(std::filesystem::exists(folder.path() / "out"));
}

TEST(Command, Helps) {
  EXPECT_EQ(run("linearize --help").code, 0);
  EXPECT_EQ(run("--help").code, 0);
  EXPECT_EQ(run("").code, 2);
}

}  // namespace
}  // namespace espalier
