// SPEC: how users write an attention: "softmax", "augmented(global=flash_global,group=64,taps=32)".
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace espalier {

// A parsed SPEC. Options keep their text; what they mean and may be is their mechanism's card's to say (card.h).
class AttentionSpec {
 public:
  // name, or name(key=value,…); values may be SPECs in parentheses themselves. Throws InvalidArgument.
  static AttentionSpec parse(std::string_view text);

  const std::string& name() const { return name_; }
  // Canonical text: options sorted by key, none where none was given.
  std::string text() const;

  // Throws InvalidArgument naming spec, option and range.
  int64_t integer(std::string_view key, int64_t fallback, int64_t low, int64_t high) const;
  // One of `choices`, which are written "a|b|c".
  std::string choice(std::string_view key, std::string_view fallback, std::string_view choices) const;
  // The value as it stands (a nested SPEC).
  std::string value(std::string_view key, std::string_view fallback) const;
  // `known` is "a|b|c".
  void reject_unknown(std::string_view known) const;

 private:
  std::string name_;
  std::map<std::string, std::string, std::less<>> options_;
};

}  // namespace espalier
