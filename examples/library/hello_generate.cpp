// hello_generate MODEL PROMPT: writes on from a prompt, as it comes.
#include <espalier/generate.h>

#include <cstdio>

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: hello_generate MODEL PROMPT\n");
    return 2;
  }
  try {
    espalier::Session session(espalier::LanguageModel::load(argv[1]));
    espalier::GenerateSettings settings;
    settings.max_tokens = 40;
    settings.on_text = [](std::string_view text) { std::fwrite(text.data(), 1, text.size(), stdout); };
    const espalier::Generated written = espalier::generate(session, argv[2], settings);
    std::printf("\n");
    std::fprintf(stderr, "%zu tokens, %.1f a second, %.2f a step\n", written.tokens.size(), written.tokens_per_second,
                 written.tokens_per_step);
    return 0;
  } catch (const espalier::Error& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
}
