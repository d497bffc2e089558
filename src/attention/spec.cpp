#include "attention/spec.h"

#include <algorithm>
#include <charconv>

#include "core/error.h"

namespace espalier {
namespace {

[[noreturn]] void refuse(std::string_view text, std::string_view expected, std::string_view got) {
  throw InvalidArgument(error_text("attention '" + std::string(text) + "'", expected, got));
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

bool is_word(std::string_view text) {
  if (text.empty()) return false;
  for (const char c : text) {
    if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '_') return false;
  }
  return true;
}

// True when `word` is one of `choices`, "a|b|c".
bool among(std::string_view word, std::string_view choices) {
  while (!choices.empty()) {
    const size_t bar = std::min(choices.find('|'), choices.size());
    if (choices.substr(0, bar) == word) return true;
    choices.remove_prefix(std::min(bar + 1, choices.size()));
  }
  return false;
}

constexpr size_t kMaxLength = 1000;

}  // namespace

AttentionSpec AttentionSpec::parse(std::string_view whole) {
  if (whole.size() > kMaxLength) refuse("…", "at most 1000 characters", std::to_string(whole.size()));
  std::string_view text = trimmed(whole);
  AttentionSpec spec;
  const size_t open = text.find('(');
  spec.name_ = std::string(trimmed(text.substr(0, open)));
  if (!is_word(spec.name_)) refuse(whole, "a name of a-z, 0-9 and _", "'" + spec.name_ + "'");
  if (open == std::string_view::npos) return spec;
  if (text.back() != ')') refuse(whole, "')' at the end", "'" + std::string(1, text.back()) + "'");
  std::string_view body = text.substr(open + 1, text.size() - open - 2);
  // Commas inside nested parentheses belong to the nested SPEC.
  int depth = 0;
  size_t begin = 0;
  for (size_t i = 0; i <= body.size(); ++i) {
    const char c = i < body.size() ? body[i] : ',';
    depth += (c == '(') - (c == ')');
    if (depth < 0 || (i == body.size() && depth != 0)) refuse(whole, "balanced parentheses", "unbalanced ones");
    if (c != ',' || depth != 0) continue;
    const std::string_view option = trimmed(body.substr(begin, i - begin));
    begin = i + 1;
    if (option.empty() && i == body.size() && spec.options_.empty()) break;
    const size_t equals = option.find('=');
    const std::string key(trimmed(option.substr(0, equals)));
    if (equals == std::string_view::npos || !is_word(key)) refuse(whole, "key=value", "'" + std::string(option) + "'");
    const std::string value(trimmed(option.substr(equals + 1)));
    if (value.empty()) refuse(whole, "a value for " + key, "none");
    if (!spec.options_.emplace(key, value).second) refuse(whole, "each option once", "'" + key + "' twice");
  }
  return spec;
}

std::string AttentionSpec::text() const {
  if (options_.empty()) return name_;
  std::string text = name_ + "(";
  for (const auto& [key, value] : options_) text += (text.back() == '(' ? "" : ",") + key + "=" + value;
  return text + ")";
}

int64_t AttentionSpec::integer(std::string_view key, int64_t fallback, int64_t low, int64_t high) const {
  const auto it = options_.find(key);
  if (it == options_.end()) return fallback;
  int64_t value = 0;
  const char* end = it->second.data() + it->second.size();
  const auto [stop, error] = std::from_chars(it->second.data(), end, value);
  if (error != std::errc() || stop != end || value < low || value > high) {
    refuse(text(), std::string(key) + " in [" + std::to_string(low) + ", " + std::to_string(high) + "]",
           "'" + it->second + "'");
  }
  return value;
}

std::string AttentionSpec::choice(std::string_view key, std::string_view fallback, std::string_view choices) const {
  const std::string chosen = value(key, fallback);
  if (!among(chosen, choices)) refuse(text(), std::string(key) + " out of " + std::string(choices), "'" + chosen + "'");
  return chosen;
}

std::string AttentionSpec::value(std::string_view key, std::string_view fallback) const {
  const auto it = options_.find(key);
  return it == options_.end() ? std::string(fallback) : it->second;
}

void AttentionSpec::reject_unknown(std::string_view known) const {
  for (const auto& [key, value] : options_) {
    if (!among(key, known)) {
      refuse(text(), known.empty() ? "no options" : "options out of " + std::string(known), "'" + key + "'");
    }
  }
}

}  // namespace espalier
