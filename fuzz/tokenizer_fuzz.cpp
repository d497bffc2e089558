// A hostile tokenizer.json, and any text through a sound tokenizer: what comes back is what went in, also piece by
// piece.
#include <fstream>
#include <vector>

#include "checkpoint/hf_directory.h"
#include "checkpoint/safetensors.h"
#include "core/utf8.h"
#include "fuzz.h"
#include "tokenizers/tokenizer.h"

namespace {

using namespace espalier;

// A model directory without its tokenizer.
std::filesystem::path model_directory() {
  const std::filesystem::path path =
      std::filesystem::temp_directory_path() / ("espalier-fuzz-" + std::to_string(getpid()));
  std::filesystem::create_directories(path);
  std::ofstream(path / "config.json")
      << R"({"model_type": "llama", "vocab_size": 8, "hidden_size": 4, "intermediate_size": 4,)"
      << R"( "num_hidden_layers": 1, "num_attention_heads": 1})";
  write_safetensors(path / "model.safetensors", {});
  return path;
}

std::string in_byte_alphabet(int byte) {
  const bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
  int shifted = byte;
  if (!printable) shifted = byte < 33 ? 256 + byte : byte == 173 ? 256 + 67 : 256 + byte - 94;
  std::string text;
  if (shifted < 128) {
    text += static_cast<char>(shifted);
  } else {
    text += static_cast<char>(0xc0 | (shifted >> 6));
    text += static_cast<char>(0x80 | (shifted & 63));
  }
  return text;
}

std::unique_ptr<Tokenizer> sound_tokenizer(const char* pre_tokenizer) {
  TokenizerData data{.model = "bpe", .pre_tokenizer = pre_tokenizer};
  for (int byte = 0; byte < 256; ++byte) data.pieces.push_back(in_byte_alphabet(byte));
  for (const auto& [a, b] : {std::pair{"a", "b"}, {"ab", "c"}, {"t", "h"}, {"th", "e"}, {"1", "2"}}) {
    data.merges.emplace_back(a, b);
    data.pieces.push_back(std::string(a) + b);
  }
  return make_tokenizer(data);
}

void round_trip(const std::string& text) {
  static const std::unique_ptr<Tokenizer> tokenizers[] = {sound_tokenizer("gpt2"), sound_tokenizer("smollm"),
                                                          sound_tokenizer("llama3")};
  for (const auto& tokenizer : tokenizers) {
    const std::vector<int32_t> ids = tokenizer->encode(text);
    if (tokenizer->decode(ids) != text) std::abort();
    StreamDecoder stream(*tokenizer);
    std::string pieces;
    for (const int32_t id : ids) {
      const std::string piece = stream.push(id);
      if (utf8_repaired(piece) != piece) std::abort();  // half a character
      pieces += piece;
    }
    if (pieces + stream.finish() != text) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::filesystem::path directory = model_directory();
  if (size == 0) return 0;
  const std::string content(reinterpret_cast<const char*>(data), size);
  if (data[0] != '{') {
    round_trip(utf8_repaired(content));
    return 0;
  }
  std::ofstream(directory / "tokenizer.json", std::ios::trunc) << content;
  fuzz::expect_error_or_success([&] {
    const auto tokenizer = make_tokenizer(open_hf_directory(directory).tokenizer);
    tokenizer->decode(tokenizer->encode("Hello, 12 wörlds<|end|>\n"));
    for (int32_t id = 0; id < std::min<int64_t>(tokenizer->vocab_size(), 1000); ++id) tokenizer->bytes(id);
  });
  return 0;
}
