#include "core/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "core/error.h"

namespace espalier {
namespace {

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }
  int close() { return ::close(std::exchange(fd_, -1)); }

 private:
  int fd_;
};

[[noreturn]] void cannot(const std::filesystem::path& path, const char* what) {
  throw InvalidArgument(error_text(path.string(), what, std::strerror(errno)));
}

void write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd, bytes.data(), std::min<size_t>(bytes.size(), size_t{1} << 30));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) throw Internal(std::strerror(errno));
    bytes.remove_prefix(static_cast<size_t>(written));
  }
}

}  // namespace

MappedFile::MappedFile(const std::filesystem::path& path) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0) cannot(path, "a file that can be read");
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) cannot(path, "a file");
  if (!S_ISREG(status.st_mode)) throw InvalidArgument(error_text(path.string(), "a file", "something else"));
  size_ = static_cast<size_t>(status.st_size);
  if (size_ == 0) return;
  void* memory = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.get(), 0);
  if (memory == MAP_FAILED) cannot(path, "a file that can be mapped");
  data_ = static_cast<const std::byte*>(memory);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile::~MappedFile() {
  if (data_) ::munmap(const_cast<std::byte*>(data_), size_);
}

void MappedFile::release(std::span<const std::byte> part) {
  constexpr uintptr_t kPage = 4096;
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(part.data()) + kPage - 1) / kPage * kPage;
  const uintptr_t end = reinterpret_cast<uintptr_t>(part.data() + part.size()) / kPage * kPage;
  if (begin < end) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

std::string read_text_file(const std::filesystem::path& path, size_t limit) {
  const MappedFile file(path);
  if (file.bytes().size() > limit) {
    throw InvalidArgument(
        error_text(path.string(), "at most " + std::to_string(limit) + " bytes", std::to_string(file.bytes().size())));
  }
  return std::string(file.text());
}

void write_file(const std::filesystem::path& path, std::span<const std::string_view> parts) {
  write_file(path, [&](const std::function<void(std::string_view part)>& write) {
    for (const std::string_view part : parts) write(part);
  });
}

void write_file(const std::filesystem::path& path,
                const std::function<void(const std::function<void(std::string_view part)>& write)>& parts) {
  std::string temporary = path.string() + ".XXXXXX";
  Descriptor file(::mkostemp(temporary.data(), O_CLOEXEC));
  if (file.get() < 0) cannot(path, "a folder that can be written");
  try {
    parts([&](std::string_view part) { write_all(file.get(), part); });
    ::fchmod(file.get(), 0644);
    if (::fsync(file.get()) != 0 || file.close() != 0 || std::rename(temporary.c_str(), path.c_str()) != 0) {
      throw Internal(std::strerror(errno));
    }
  } catch (const Internal& error) {
    ::unlink(temporary.c_str());
    throw Internal(error_text(path.string(), "room to write", error.what(), "another disk; the old file is unchanged"));
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
  const std::filesystem::path folder = path.has_parent_path() ? path.parent_path() : ".";
  const Descriptor directory(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory.get() >= 0) ::fsync(directory.get());
}

}  // namespace espalier
