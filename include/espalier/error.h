// The four kinds of failure that Espalier reports.
//
// Every message is one line: "[where] expected …, got …; try …".
#pragma once

#include <stdexcept>

#include "espalier/export.h"

namespace espalier {

class ESPALIER_API Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// The caller asked for something that has no meaning (an unknown option, a length out of range).
class ESPALIER_API InvalidArgument : public Error {
 public:
  using Error::Error;
};

// The request is meaningful, but this program does not do it (an unknown architecture or tensor type).
class ESPALIER_API NotSupported : public Error {
 public:
  using Error::Error;
};

// A file does not hold what its format promises.
class ESPALIER_API CorruptFile : public Error {
 public:
  using Error::Error;
};

// A fault of Espalier itself: please report it.
class ESPALIER_API Internal : public Error {
 public:
  using Error::Error;
};

}  // namespace espalier
