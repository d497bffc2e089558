#include "attention/operator.h"
#include "attention/shared/additive.h"
#include "core/error.h"

namespace espalier {

#define MECHANISM(x) const AttentionCard& x##_card();
#include "attention/mechanisms.def"

namespace {

const OptionInfo& option_of(const AttentionCard& card, std::string_view name) {
  for (const OptionInfo& option : card.options) {
    if (option.name == name) return option;
  }
  throw Internal(error_text("attention '" + card.name + "'", "an option of its card", name));
}

[[noreturn]] void throw_unknown(const AttentionSpec& spec, const std::vector<MechanismEntry>& more) {
  std::string known;
  for (const std::string& name : mechanism_names()) known += (known.empty() ? "" : ", ") + name;
  for (const MechanismEntry& card : more) known += ", " + card.name;
  throw InvalidArgument(error_text("attention", "a name out of " + known, "'" + spec.name() + "'"));
}

std::unique_ptr<Mechanism> make(const AttentionSpec& spec, const AttentionCard& card, const AttentionShape& shape) {
  const AttentionOptions options(spec, card);
  return card.make ? card.make(options, shape) : make_additive(card.additive.form(options, shape), shape);
}

}  // namespace

OptionInfo integer_option(std::string name, std::string fallback, int64_t low, int64_t high, std::string meaning) {
  return {.name = std::move(name),
          .kind = OptionKind::kInteger,
          .fallback = std::move(fallback),
          .low = low,
          .high = high,
          .meaning = std::move(meaning)};
}

OptionInfo choice_option(std::string name, std::string choices, std::string meaning) {
  return {.name = std::move(name),
          .kind = OptionKind::kChoice,
          .fallback = choices.substr(0, choices.find('|')),
          .choices = choices,
          .meaning = std::move(meaning)};
}

OptionInfo group_option(int64_t fallback) {
  return integer_option("group", std::to_string(fallback), kMinGroup, kMaxGroup, "rows of a group");
}

std::string AttentionCard::signature() const {
  if (options.empty()) return name;
  std::string text = name + "(";
  for (const OptionInfo& option : options) {
    const std::string& values = option.kind == OptionKind::kChoice ? option.choices : option.fallback;
    text += (text.back() == '(' ? "" : ",") + option.name + "=" + (values.empty() ? "N" : values);
  }
  return text + ")";
}

AttentionOptions::AttentionOptions(AttentionSpec spec, const AttentionCard& card)
    : spec_(std::move(spec)), card_(&card) {
  std::string known;
  for (const OptionInfo& option : card.options) known += (known.empty() ? "" : "|") + option.name;
  spec_.reject_unknown(known);
  for (const OptionInfo& option : card.options) {
    if (option.kind == OptionKind::kInteger) spec_.integer(option.name, option.low, option.low, option.high);
    if (option.kind == OptionKind::kChoice) spec_.choice(option.name, option.fallback, option.choices);
    if (option.kind == OptionKind::kSpec) AttentionSpec::parse(text(option.name));
  }
}

int64_t AttentionOptions::integer(std::string_view name) const {
  return integer_or(name, std::stoll(option_of(*card_, name).fallback));
}

int64_t AttentionOptions::integer_or(std::string_view name, int64_t fallback) const {
  const OptionInfo& option = option_of(*card_, name);
  return spec_.integer(name, fallback, option.low, option.high);
}

std::string AttentionOptions::text(std::string_view name) const {
  return spec_.value(name, option_of(*card_, name).fallback);
}

const std::vector<const AttentionCard*>& attention_cards() {
#define MECHANISM(x) &x##_card(),
  static const std::vector<const AttentionCard*> cards = {
#include "attention/mechanisms.def"
  };
  return cards;
}

const AttentionCard* find_card(std::string_view name) {
  for (const AttentionCard* card : attention_cards()) {
    if (card->name == name) return card;
  }
  return nullptr;
}

AttentionOptions checked_options(const AttentionSpec& spec) {
  const AttentionCard* card = find_card(spec.name());
  if (!card) throw_unknown(spec, {});
  return {spec, *card};
}

std::unique_ptr<Mechanism> make_mechanism(const AttentionSpec& spec, const AttentionShape& shape,
                                          const std::vector<MechanismEntry>& more) {
  if (shape.heads_per_kv() > kMaxHeadsPerKv) {
    throw NotSupported(error_text("attention '" + spec.text() + "', layer " + std::to_string(shape.layer),
                                  "at most " + std::to_string(kMaxHeadsPerKv) + " query heads on a KV head",
                                  std::to_string(shape.heads_per_kv())));
  }
  for (const MechanismEntry& card : more) {
    if (spec.name() == card.name) return make(spec, card, shape);
  }
  if (const AttentionCard* card = find_card(spec.name())) return make(spec, *card, shape);
  throw_unknown(spec, more);
}

std::unique_ptr<Mechanism> make_closed_groups(const AttentionSpec& spec, const AttentionShape& shape, int64_t group) {
  const AttentionCard* card = find_card(spec.name());
  if (card && card->additive.form) {
    return make_additive(card->additive.form(AttentionOptions(spec, *card), shape), shape, group);
  }
  std::string known = "flash_global";
  for (const AttentionCard* one : attention_cards()) {
    if (one->additive.form) known += ", " + one->name;
  }
  throw InvalidArgument(error_text("attention, global part", "a name out of none, " + known, "'" + spec.text() + "'"));
}

std::vector<std::string> mechanism_names() {
  std::vector<std::string> names;
  for (const AttentionCard* card : attention_cards()) names.push_back(card->name);
  return names;
}

}  // namespace espalier
