// A hostile SentencePiece model file: pieces, scores, table of replacements; and texts through what it makes.
#include "checkpoint/sentence_piece_model.h"
#include "core/utf8.h"
#include "fuzz.h"
#include "tokenizers/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace espalier;
  static const fuzz::MemoryFile file;
  const std::filesystem::path path = file.hold(data, size);
  fuzz::expect_error_or_success([&] {
    const auto tokenizer = make_tokenizer(read_sentence_piece_model(path));
    // The file's own beginning as a text, too: it holds what the table and the pieces are about.
    const std::string own =
        utf8_repaired(std::string(reinterpret_cast<const char*>(data), std::min<size_t>(size, 200)));
    for (const std::string& text : {std::string("Hello,  12 wörlds \xE3\x80\x80 \xC3\xA9 e\xCC\x81"), own}) {
      const std::vector<int32_t> ids = tokenizer->encode(text);
      for (const int32_t id : ids) {
        if (id < 0 || id >= tokenizer->vocab_size()) std::abort();
      }
      tokenizer->decode(ids);
    }
  });
  return 0;
}
