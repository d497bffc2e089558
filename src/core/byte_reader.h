// Numbers and texts of a file that nobody has checked yet.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace espalier {

// Takes a file apart from its beginning. `where` and `hint` (what to try) stand in the errors, which are CorruptFile.
class ByteReader {
 public:
  ByteReader(std::string_view bytes, std::string where, std::string hint)
      : rest_(bytes), where_(std::move(where)), hint_(std::move(hint)) {}

  [[noreturn]] void refuse(const std::string& field, const std::string& expected, const std::string& got) const;
  std::string_view take(uint64_t count, const std::string& field);
  // Eight bytes, the lowest first.
  uint64_t number(const std::string& field, uint64_t most);
  const std::string& where() const { return where_; }
  uint64_t left() const { return rest_.size(); }

 private:
  std::string_view rest_;
  std::string where_, hint_;
};

void append_number(std::string& out, uint64_t value);

}  // namespace espalier
