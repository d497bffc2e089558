// What the fuzz targets share. A target feeds hostile bytes to a reader: it may throw espalier::Error and nothing else.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "core/error.h"

namespace espalier::fuzz {

// A file in memory that readers can open by its path.
class MemoryFile {
 public:
  MemoryFile() : descriptor_(memfd_create("fuzz", 0)) {
    if (descriptor_ < 0) std::abort();
  }
  std::filesystem::path hold(const uint8_t* data, size_t size) const {
    if (ftruncate(descriptor_, 0) != 0 || pwrite(descriptor_, data, size, 0) != static_cast<ssize_t>(size))
      std::abort();
    return "/proc/self/fd/" + std::to_string(descriptor_);
  }

 private:
  int descriptor_;
};

// Runs `body`; errors that the user would see as one line are what hostile input should give.
template <class Body>
void expect_error_or_success(Body&& body) {
  try {
    body();
  } catch (const Internal&) {
    throw;  // our own fault
  } catch (const Error& error) {
    if (std::string(error.what()).find('\n') != std::string::npos) std::abort();
  }
}

}  // namespace espalier::fuzz
