// The four kinds of failure that Espalier reports.
//
// Every message is one line: "[where] expected …, got …; try …". The command line prints it after
// "error: " and exits 2 for InvalidArgument that comes from options, 1 for the rest.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace espalier {

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// The caller asked for something that has no meaning (an unknown option, a length out of range).
class InvalidArgument : public Error {
 public:
  using Error::Error;
};

// The request is meaningful, but this program does not do it (an unknown architecture or tensor type).
class NotSupported : public Error {
 public:
  using Error::Error;
};

// A file does not hold what its format promises.
class CorruptFile : public Error {
 public:
  using Error::Error;
};

// A fault of Espalier itself: please report it.
class Internal : public Error {
 public:
  using Error::Error;
};

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
