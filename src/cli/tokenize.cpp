#include <iostream>
#include <nlohmann/json.hpp>

#include "cli/model_arguments.h"
#include "core/error.h"
#include "core/utf8.h"

namespace espalier {
namespace {

struct Arguments {
  std::string model;
  bool decode = false, special = false;
};

std::vector<int32_t> ids_of(const std::string& line, int64_t vocab_size, int64_t number) {
  const nlohmann::json json = nlohmann::json::parse(line, nullptr, false);
  const std::string where = "stdin:" + std::to_string(number);
  if (json.is_object() && json.contains("tokens")) return token_ids(json["tokens"], vocab_size, where);
  if (!json.is_array()) {
    throw InvalidArgument(error_text(where, R"([1, 2] or {"tokens": [1, 2]})", "something else"));
  }
  return token_ids(json, vocab_size, where);
}

int run(const Arguments& arguments) {
  const auto tokenizer = required_tokenizer(open_model(arguments.model));
  std::string line;
  for (int64_t number = 1; std::getline(std::cin, line); ++number) {
    nlohmann::json result;
    if (arguments.decode) {
      result["text"] =
          utf8_repaired(tokenizer->decode(ids_of(line, tokenizer->vocab_size(), number), arguments.special));
    } else {
      const Tokenizer::Part part{line, arguments.special};
      result["tokens"] = tokenizer->encode({&part, 1}, true);
    }
    std::cout << result.dump() << std::endl;
  }
  return 0;
}

Action add(CLI::App& app) {
  const auto arguments = std::make_shared<Arguments>();
  app.footer(
      "Token ids of the lines on stdin, as JSON lines; --decode goes the other way.\n\n"
      "  echo 'Hello world' | espalier tokenize MODEL\n"
      "  echo '[19556, 905]' | espalier tokenize MODEL --decode");
  app.add_option("MODEL", arguments->model, "A .gguf file or a model directory")->required();
  app.add_flag("--decode", arguments->decode, "Lines of ids to texts");
  app.add_flag("--special", arguments->special, "Special tokens are parsed, and kept when decoding");
  return [arguments] { return run(*arguments); };
}

}  // namespace

Verb tokenize_verb() {
  return {"tokenize", "Texts to token ids, and back", add};
}

}  // namespace espalier
