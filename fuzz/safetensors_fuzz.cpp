// A hostile safetensors file: header and every tensor.
#include <vector>

#include "checkpoint/safetensors.h"
#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace espalier;
  static const fuzz::MemoryFile file;
  const std::filesystem::path path = file.hold(data, size);
  fuzz::expect_error_or_success([&] {
    const SafetensorsSource source({path});
    for (const std::string& name : source.names()) {
      std::vector<float> values(static_cast<size_t>(source.find(name)->elements()));
      source.read(name, values.data());
    }
  });
  return 0;
}
