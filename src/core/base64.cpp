#include "core/base64.h"

#include <openssl/evp.h>

#include "core/error.h"

namespace espalier {

std::string base64_decoded(std::string_view text, std::string_view where) {
  constexpr size_t kMost = size_t{1} << 30;
  if (text.empty()) return "";
  std::string bytes(text.size() / 4 * 3, '\0');
  const int size =
      text.size() % 4 != 0 || text.size() > kMost
          ? -1
          : EVP_DecodeBlock(reinterpret_cast<unsigned char*>(bytes.data()),
                            reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size()));
  if (size < 0) throw CorruptFile(error_text(where, "base64", std::string(text.substr(0, 20))));
  // Padding was decoded as zeros.
  const size_t padding = text.ends_with("==") ? 2 : text.ends_with("=") ? 1 : 0;
  bytes.resize(static_cast<size_t>(size) - padding);
  return bytes;
}

}  // namespace espalier
