// A hostile GGUF file: metadata, tensors, tokenizer, model and one step.
#include <numeric>
#include <vector>

#include "checkpoint/gguf.h"
#include "fuzz.h"
#include "models/model.h"
#include "tokenizers/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace espalier;
  static const fuzz::MemoryFile file;
  static Workspace workspace(1);
  const std::filesystem::path path = file.hold(data, size);
  fuzz::expect_error_or_success([&] { GgufFile{path}; });
  fuzz::expect_error_or_success([&] {
    const ModelFiles files = open_gguf(path);
    for (const std::string& name : files.tensors->names()) {
      std::vector<float> values(static_cast<size_t>(files.tensors->find(name)->elements()));
      fuzz::expect_error_or_success([&] { files.tensors->read(name, values.data()); });
    }
    fuzz::expect_error_or_success([&] {
      const auto tokenizer = make_tokenizer(files.tokenizer);
      tokenizer->decode(tokenizer->encode("Hello, 12 wörlds<|end|>\n"));
    });
    const auto model = load_model(files, {.weights = WeightType::kF32});
    SequenceState state = model->new_state();
    std::vector<int32_t> tokens(5);
    std::iota(tokens.begin(), tokens.end(), 0);
    model->prefill(state, tokens, workspace, nullptr, nullptr);
  });
  return 0;
}
