// How errors (espalier/error.h) are worded. The command line prints their line after "error: " and exits 2 for
// InvalidArgument that comes from options, 1 for the rest.
#pragma once

#include <string>
#include <string_view>

#include "espalier/error.h"

namespace espalier {

// "[where] expected E, got G; try T". An empty `expected`, `got` or `advice` leaves its part out.
// Control characters, which names out of files may hold, become '?'; a part is cut after 400 bytes.
std::string error_text(std::string_view where, std::string_view expected, std::string_view got,
                       std::string_view advice = {});

// Throws Internal with the failed condition and its place.
[[noreturn]] void throw_internal(const char* file, int line, const char* condition);

}  // namespace espalier

// An invariant of our own code. Input from outside is checked with the error kinds above instead.
#define ESPALIER_CHECK(condition)                                 \
  do {                                                            \
    if (!(condition)) {                                           \
      ::espalier::throw_internal(__FILE__, __LINE__, #condition); \
    }                                                             \
  } while (false)
