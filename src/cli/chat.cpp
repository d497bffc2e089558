#include <iostream>

#include "cli/decoding_arguments.h"
#include "cli/model_arguments.h"
#include "core/error.h"
#include "core/progress.h"
#include "decoding/state_file.h"
#include "models/memory_plan.h"
#include "program/interrupt.h"

namespace espalier {
namespace {

struct Arguments {
  ModelArguments model;
  DecodingArguments decoding;
};

int run(const Arguments& a) {
  const ModelFiles files = a.model.open();
  const auto tokenizer = required_tokenizer(files);
  const ChatFormat format = a.decoding.format(files);
  const auto model = a.model.load(files, a.decoding.options.max_context);
  const GenerateOptions options = a.decoding.complete(files);
  Workspace workspace(a.model.thread_count());
  const LoadedDrafts drafts = a.decoding.drafts(a.model, files, *tokenizer, *model);
  Generator generator(*model, tokenizer.get(), workspace, drafts.sources());
  const StepTimesOfUser step_times(generator, *model, a.model);
  const bool terminal = is_terminal(0);
  const Log log = a.model.log();
  if (terminal) log.info("/reset begins anew, /exit or Ctrl-D ends, Ctrl-C ends a reply");

  SavedState conversation;
  std::string text;
  while (true) {
    if (terminal) std::cout << "> " << std::flush;
    if (!std::getline(std::cin, text) || text == "/exit") break;
    if (text == "/reset") conversation = {};
    if (text.empty() || text == "/reset") continue;
    GenerateRequest request =
        request_after(conversation, a.decoding.message_tokens(*tokenizer, format, text, conversation.tokens));
    request.on_text = [](std::string_view piece) { std::cout << piece << std::flush; };
    request.options = options;
    install_interrupt();
    const GenerateResult result = generator.generate(request, &interrupted());
    restore_interrupt();
    std::cout << std::endl;
    log.info(statistics_text(result, request.prompt.size()));
    conversation = state_after(request, result);
  }
  return kExitOk;
}

Action add(CLI::App& app) {
  const auto a = std::make_shared<Arguments>();
  a->decoding.options.max_tokens = 512;
  app.footer(
      "A conversation: a line on stdin is a message, the reply streams to stdout. The state is kept between turns, so "
      "a turn costs its own tokens alone.\n\n"
      "  espalier chat MODEL --temperature 0.7\n"
      "  espalier chat MODEL --system 'You answer in verse.'");
  a->model.add_to(app);
  a->decoding.add_to(app);
  return [a] { return run(*a); };
}

}  // namespace

Verb chat_verb() {
  return {"chat", "A conversation", add};
}

}  // namespace espalier
