// states MODEL FILE: reads a text once, goes on from it in two ways, and keeps what it remembers in a file.
#include <espalier/generate.h>
#include <espalier/score.h>

#include <cstdio>

namespace {

void show(const char* what, const espalier::Generated& written, const espalier::State& state) {
  std::printf("%s:%s\n  [%lld tokens, state of %lld bytes]\n", what, written.text.c_str(),
              static_cast<long long>(state.length()), static_cast<long long>(state.bytes()));
}

int run(const char* path, const char* file) {
  // A linear attention: the state has the same size however long the text gets.
  const auto model = espalier::LanguageModel::load(path, {.attention = "window(group=64)"});
  espalier::Session session(model);
  espalier::GenerateSettings settings;
  settings.max_tokens = 24;

  espalier::State story;
  show("The story", espalier::generate(session, story, "Once upon a time there was a lighthouse.", settings), story);

  espalier::State fork = story;  // costs nothing until one of them goes on
  show("One way", espalier::generate(session, story, " The sea", settings), story);
  show("Another", espalier::generate(session, fork, " The keeper", settings), fork);

  fork.save(file, model);
  espalier::State later = espalier::State::load(file, model);
  const espalier::Generated here = espalier::generate(session, fork, " And", settings);
  const espalier::Generated there = espalier::generate(session, later, " And", settings);
  std::printf("From the file: %s\n", here.tokens == there.tokens ? "the same tokens" : "other tokens");
  return here.tokens == there.tokens ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: states MODEL FILE\n");
    return 2;
  }
  try {
    return run(argv[1], argv[2]);
  } catch (const espalier::Error& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
}
