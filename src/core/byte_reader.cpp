#include "core/byte_reader.h"

#include "core/error.h"

namespace espalier {

void ByteReader::refuse(const std::string& field, const std::string& expected, const std::string& got) const {
  throw CorruptFile(error_text(where_ + ": " + field, expected, got, hint_));
}

std::string_view ByteReader::take(uint64_t count, const std::string& field) {
  if (count > rest_.size()) refuse(field, std::to_string(count) + " bytes", std::to_string(rest_.size()));
  const std::string_view taken = rest_.substr(0, count);
  rest_.remove_prefix(count);
  return taken;
}

uint64_t ByteReader::number(const std::string& field, uint64_t most) {
  const std::string_view bytes = take(8, field);
  uint64_t value = 0;
  for (size_t i = 0; i < 8; ++i) value |= static_cast<uint64_t>(static_cast<unsigned char>(bytes[i])) << (8 * i);
  if (value > most) refuse(field, "at most " + std::to_string(most), std::to_string(value));
  return value;
}

void append_number(std::string& out, uint64_t value) {
  for (int i = 0; i < 8; ++i) out += static_cast<char>(value >> (8 * i));
}

}  // namespace espalier
