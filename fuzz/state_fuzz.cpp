// A hostile state file with a right checksum: what is taken must go on like any state.
#include <algorithm>
#include <cstring>
#include <vector>

#include "core/hash.h"
#include "decoding/state_file.h"
#include "fuzz.h"
#include "support/tiny_model.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace {

using namespace espalier;

const Model& model() {
  static const auto tiny = testing::load_tiny_model(
      {.hidden_size = 32, .heads = 2, .attention = {"lolcats(group=8,sinks=2,taps=3)", "augmented(group=4,taps=3)"}});
  return *tiny;
}

StateBinding binding() {
  return {.base_sha256 = "0", .adapter_sha256 = "", .attention = {"a"}, .weights = "f32"};
}

// What a state file says before its checksum.
std::string valid_state(unsigned seed) {
  Workspace workspace(1);
  SavedState saved{model().new_state(), testing::random_tokens(1 + seed % 40, model().config().vocab_size, seed)};
  model().prefill(saved.state, saved.tokens, workspace, nullptr, nullptr);
  std::string bytes = serialize_state(saved, binding());
  bytes.resize(bytes.size() - 64);
  return bytes;
}

}  // namespace

// Begins from states that are sound: nothing random would get past the header.
extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned seed) {
  if (size < 64 || seed % 64 == 0) {
    const std::string state = valid_state(seed);
    size = std::min(max_size, state.size());
    std::memcpy(data, state.data(), size);
  }
  return LLVMFuzzerMutate(data, size, max_size);
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static Workspace workspace(1);
  std::string bytes(reinterpret_cast<const char*>(data), size);
  bytes += sha256(std::as_bytes(std::span(bytes.data(), bytes.size())));
  fuzz::expect_error_or_success([&] {
    SavedState saved = parse_state(bytes, binding(), model(), "state");
    if (saved.state.length() > 4000) return;
    const std::vector<int32_t> tokens = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
    model().prefill(saved.state, tokens, workspace, nullptr, nullptr);
  });
  return 0;
}
