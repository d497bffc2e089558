// The SPECs that tests try, out of the mechanisms' cards.
#pragma once

#include <string>
#include <vector>

#include "attention/card.h"

namespace espalier::testing {

inline std::vector<const char*> of_all_cards(std::vector<std::string> AttentionCard::*list) {
  std::vector<const char*> specs;
  for (const AttentionCard* card : attention_cards()) {
    for (const std::string& spec : card->*list) specs.push_back(spec.c_str());
  }
  return specs;
}

// For laws and samples on tiny models: every mechanism, small groups, so that short texts cross many borders.
inline std::vector<const char*> attentions_in_models() {
  return of_all_cards(&AttentionCard::in_models);
}
// For a mechanism alone: every option, too.
inline std::vector<const char*> attention_samples() {
  return of_all_cards(&AttentionCard::samples);
}
// With the options of a real model.
inline std::vector<std::string> attentions_to_measure() {
  std::vector<std::string> specs;
  for (const AttentionCard* card : attention_cards()) {
    for (std::string& spec : card->specs_to_measure()) specs.push_back(std::move(spec));
  }
  return specs;
}

}  // namespace espalier::testing
