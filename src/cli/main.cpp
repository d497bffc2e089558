// espalier <verb> MODEL [options]: exit 0 ok, 1 failed, 2 usage, 130 interrupted.
#include "cli/verbs.h"
#include "program/program.h"

int main(int argc, char** argv) {
  return espalier::run_program(
      "Espalier: linear-attention LLMs, made from pretrained ones and decoded with lossless tree speculation.\n"
      "\n"
      "  espalier generate models/smollm2-135m-instruct.gguf --chat --prompt \"Why is the sky blue?\"\n"
      "  espalier <verb> --help        explains a verb and its options\n"
      "\n"
      "Exit codes: 0 ok, 1 failed, 2 usage, 130 interrupted.",
      espalier::verbs(), "a smaller --max-context", argc, argv);
}
