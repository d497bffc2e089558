#include "cli/attentions.h"

#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>

#include "attention/card.h"
#include "attention/operator.h"

namespace espalier {
namespace {

nlohmann::json described(const OptionInfo& option) {
  nlohmann::json result = {{"name", option.name}, {"meaning", option.meaning}, {"default", nullptr}};
  if (!option.fallback.empty()) result["default"] = option.fallback;
  if (option.kind == OptionKind::kInteger) {
    result["kind"] = "integer";
    result["range"] = {option.low, option.high};
  } else if (option.kind == OptionKind::kChoice) {
    result["kind"] = "choice";
    result["choices"] = option.choices;
  } else {
    result["kind"] = "SPEC";
  }
  return result;
}

void print_json() {
  nlohmann::json all = nlohmann::json::array();
  for (const AttentionCard* card : attention_cards()) {
    nlohmann::json options = nlohmann::json::array();
    for (const OptionInfo& option : card->options) options.push_back(described(option));
    all.push_back({{"name", card->name},
                   {"summary", card->summary},
                   {"paper", card->paper},
                   {"options", options},
                   {"additive", static_cast<bool>(card->additive.form)},
                   {"examples", card->specs_to_measure()}});
  }
  std::cout << nlohmann::json{{"attentions", all}}.dump() << std::endl;
}

void print_text() {
  for (const AttentionCard* card : attention_cards()) {
    std::printf("%s\n    %s\n    %s\n", card->signature().c_str(), card->summary.c_str(), card->paper.c_str());
    for (const OptionInfo& option : card->options) {
      std::string range;
      if (option.kind == OptionKind::kInteger) {
        range = " (" + std::to_string(option.low) + " to " + std::to_string(option.high) + ")";
      }
      std::printf("    %-10s  %s%s\n", option.name.c_str(), option.meaning.c_str(), range.c_str());
    }
  }
}

}  // namespace

void print_attentions(bool json) {
  json ? print_json() : print_text();
}

}  // namespace espalier
