// Base64 (RFC 4648), as JSON files carry bytes.
#pragma once

#include <string>
#include <string_view>

namespace espalier {

// Throws CorruptFile naming `where` for anything but whole groups of four characters of the alphabet.
std::string base64_decoded(std::string_view text, std::string_view where);

}  // namespace espalier
