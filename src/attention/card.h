// What an attention mechanism says of itself: name, source, options as data, SPECs to try it with, and how its step
// half is made. Everything that lists mechanisms reads the cards: errors, the command line, tests, benchmarks, tables.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "attention/spec.h"

namespace espalier {

class Mechanism;
struct AdditiveForm;
struct AttentionCard;
struct AttentionShape;
namespace plain {
struct FeatureInput;
}

// Rows of a group: what a SPEC that names none gets, and what it may name.
inline constexpr int64_t kDefaultGroup = 64, kMinGroup = 1, kMaxGroup = 4096;

enum class OptionKind { kInteger, kChoice, kSpec };

struct OptionInfo {
  std::string name;
  OptionKind kind;
  std::string fallback;       // as a user would write it; "Dk" where it depends on the layer; empty: must be given
  int64_t low = 0, high = 0;  // of kInteger
  std::string choices;        // of kChoice: "a|b|c"
  std::string meaning;        // one line
};
OptionInfo integer_option(std::string name, std::string fallback, int64_t low, int64_t high, std::string meaning);
// The first of `choices`, "a|b|c", is the default.
OptionInfo choice_option(std::string name, std::string choices, std::string meaning);
OptionInfo group_option(int64_t fallback = kDefaultGroup);

// A SPEC that keeps to its card: its options are the card's, of the right kind and in range. What it leaves out has the
// card's default. Does not outlive the card.
class AttentionOptions {
 public:
  // Throws InvalidArgument naming SPEC, option and what it may be.
  AttentionOptions(AttentionSpec spec, const AttentionCard& card);

  // The option's value; `name` is one of the card's.
  int64_t integer(std::string_view name) const;
  std::string text(std::string_view name) const;
  bool is(std::string_view name, std::string_view value) const { return text(name) == value; }
  // Where the default depends on the layer, or there is none.
  int64_t integer_or(std::string_view name, int64_t fallback) const;

  const AttentionSpec& spec() const { return spec_; }
  const AttentionCard& card() const { return *card_; }

 private:
  AttentionSpec spec_;
  const AttentionCard* card_;
};

// How a mechanism whose state is a sum (shared/additive.h) is made. augmented(global=X) takes any that has this.
struct AdditiveCard {
  std::function<AdditiveForm(const AttentionOptions& options, const AttentionShape& shape)> form;
  // The same again in f64, for tests: phi of one query or key, and d.
  std::function<std::vector<double>(const plain::FeatureInput& input)> features;
  double (*denominator)(double sum) = [](double) { return 1.0; };
  bool rms = false;  // the norm over all heads of a row
};

struct AttentionCard {
  std::string name;
  std::string summary;  // one line
  std::string paper;    // authors, year, arXiv id; empty: none
  std::vector<OptionInfo> options = {};
  // SPECs that tests try of the mechanism alone: every option, small groups, borders of all kinds.
  std::vector<std::string> samples = {};
  // SPECs of whole small models that the laws and fingerprints try: few, as each is a model.
  std::vector<std::string> in_models = {};
  // SPECs of a real model's size that benchmarks and comparisons try; none: the name alone.
  std::vector<std::string> measured = {};
  // Either may be missing. make is first: an additive mechanism some of whose layers are none has both.
  std::function<std::unique_ptr<Mechanism>(const AttentionOptions& options, const AttentionShape& shape)> make = {};
  AdditiveCard additive = {};

  // The name with its options, choices or defaults: "flash_local(group=64,local=blocked|terraced)".
  std::string signature() const;
  std::vector<std::string> specs_to_measure() const {
    return measured.empty() ? std::vector<std::string>{name} : measured;
  }
};

// The cards of this tree, in the order of mechanisms.def.
const std::vector<const AttentionCard*>& attention_cards();
// Null: no such mechanism in this tree.
const AttentionCard* find_card(std::string_view name);
// A SPEC of this tree, held against its card. Throws InvalidArgument: an unknown name, or a bad option.
AttentionOptions checked_options(const AttentionSpec& spec);

}  // namespace espalier
