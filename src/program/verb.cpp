#include "program/verb.h"

#include <cstdio>

namespace espalier {

CLI::Validator number_in(double low, double high) {
  char range[64];
  std::snprintf(range, sizeof(range), "in [%g, %g]", low, high);
  const auto check = [low, high, range = std::string(range)](const std::string& text) -> std::string {
    double value = 0;
    if (CLI::detail::lexical_cast(text, value) && value >= low && value <= high) return "";
    return "expected a number " + range + ", got " + text;
  };
  return CLI::Validator(check, range);
}

}  // namespace espalier
