#include "core/error.h"

namespace espalier {

std::string error_text(std::string_view where, std::string_view expected, std::string_view got,
                       std::string_view advice) {
  std::string text = "[" + std::string(where) + "]";
  if (!expected.empty()) text += " expected " + std::string(expected);
  if (!got.empty()) text += (expected.empty() ? " got " : ", got ") + std::string(got);
  if (!advice.empty()) text += "; try " + std::string(advice);
  return text;
}

void throw_internal(const char* file, int line, const char* condition) {
  std::string_view name(file);
  if (size_t slash = name.rfind('/'); slash != std::string_view::npos) name.remove_prefix(slash + 1);
  throw Internal("[" + std::string(name) + ":" + std::to_string(line) + "] expected " + condition +
                 "; try again with the latest version and report it");
}

}  // namespace espalier
