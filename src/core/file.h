// Reading and writing whole files.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>

namespace espalier {

// A file mapped for reading. Movable; the bytes live as long as the object.
class MappedFile {
 public:
  // Throws InvalidArgument when there is no such file, it is a directory, or it cannot be read.
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&&) = delete;

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  // Gives the pages of a part back to the system; they are read anew when they are needed again.
  static void release(std::span<const std::byte> part);
  std::string_view text() const { return {reinterpret_cast<const char*>(data_), size_}; }

 private:
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

// The whole file. Throws as MappedFile does, and InvalidArgument when it is larger than `limit`.
std::string read_text_file(const std::filesystem::path& path, size_t limit = size_t{1} << 30);

// Replaces `path` as a whole or leaves it as it was: the parts go to a temporary file beside it, which is flushed to
// the disk and renamed. Throws InvalidArgument (a folder that is not there) or Internal (a full disk) with the reason;
// the temporary file is removed.
void write_file(const std::filesystem::path& path, std::span<const std::string_view> parts);
inline void write_file(const std::filesystem::path& path, std::string_view whole) {
  write_file(path, {&whole, 1});
}
// The same with parts that are made in their turn: `parts` hands each to its argument.
void write_file(const std::filesystem::path& path,
                const std::function<void(const std::function<void(std::string_view part)>& write)>& parts);

}  // namespace espalier
