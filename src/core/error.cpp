#include "core/error.h"

#include "core/utf8.h"

namespace espalier {
namespace {

constexpr size_t kMaxPart = 400;  // bytes

// Names out of files are hostile too: no line breaks, no terminal sequences, no endless text.
std::string shown(std::string_view part) {
  std::string text = utf8_repaired(part.substr(0, kMaxPart));
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  return part.size() > kMaxPart ? text + "…" : text;
}

}  // namespace

std::string error_text(std::string_view where, std::string_view expected, std::string_view got,
                       std::string_view advice) {
  std::string text = "[" + shown(where) + "]";
  if (!expected.empty()) text += " expected " + shown(expected);
  if (!got.empty()) text += (expected.empty() ? " got " : ", got ") + shown(got);
  if (!advice.empty()) text += "; try " + shown(advice);
  return text;
}

void throw_internal(const char* file, int line, const char* condition) {
  std::string_view name(file);
  if (size_t slash = name.rfind('/'); slash != std::string_view::npos) name.remove_prefix(slash + 1);
  throw Internal("[" + std::string(name) + ":" + std::to_string(line) + "] expected " + condition +
                 "; try again with the latest version and report it");
}

}  // namespace espalier
