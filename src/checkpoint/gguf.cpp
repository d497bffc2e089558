#include "checkpoint/gguf.h"

#include <cstring>
#include <set>

#include "checkpoint/dequantize.h"
#include "core/error.h"

namespace espalier {
namespace {

// ggml's numbers of metadata kinds.
enum Kind : uint32_t {
  kUint8,
  kInt8,
  kUint16,
  kInt16,
  kUint32,
  kInt32,
  kFloat32,
  kBool,
  kString,
  kArray,
  kUint64,
  kInt64,
  kFloat64
};

constexpr uint32_t kMaxDimensions = 4;
constexpr int64_t kMaxExtent = int64_t{1} << 40;

}  // namespace

// A cursor that never leaves the file.
class GgufFile::Reader {
 public:
  Reader(std::span<const std::byte> bytes, const std::string& name) : bytes_(bytes), name_(name) {}

  size_t position() const { return position_; }
  size_t left() const { return bytes_.size() - position_; }

  [[noreturn]] void corrupt(const std::string& field, const std::string& expected, const std::string& got) const {
    throw CorruptFile(error_text(name_ + ": " + field, expected, got, "to download the file again"));
  }

  template <class T>
  T take(const std::string& field) {
    if (left() < sizeof(T)) corrupt(field, std::to_string(sizeof(T)) + " bytes", std::to_string(left()));
    T value;
    std::memcpy(&value, bytes_.data() + position_, sizeof(T));
    position_ += sizeof(T);
    return value;
  }

  // A count of things that take at least `least_bytes` each.
  uint64_t count(const std::string& field, size_t least_bytes) {
    const uint64_t value = take<uint64_t>(field);
    if (value > left() / least_bytes) {
      corrupt(field, "at most " + std::to_string(left() / least_bytes), std::to_string(value));
    }
    return value;
  }

  std::string text(const std::string& field) {
    const uint64_t size = count(field + " length", 1);
    std::string value(reinterpret_cast<const char*>(bytes_.data() + position_), static_cast<size_t>(size));
    position_ += static_cast<size_t>(size);
    return value;
  }

  GgufValue value(uint32_t kind, const std::string& key) {
    switch (kind) {
      case kFloat32:
        return static_cast<double>(take<float>(key));
      case kFloat64:
        return take<double>(key);
      case kBool:
        return take<uint8_t>(key) != 0;
      case kString:
        return text(key);
      case kArray:
        return array(key);
      default:
        return integer(kind, key);
    }
  }

 private:
  int64_t integer(uint32_t kind, const std::string& key) {
    switch (kind) {
      case kUint8:
        return take<uint8_t>(key);
      case kInt8:
        return take<int8_t>(key);
      case kUint16:
        return take<uint16_t>(key);
      case kInt16:
        return take<int16_t>(key);
      case kUint32:
        return take<uint32_t>(key);
      case kInt32:
        return take<int32_t>(key);
      case kUint64:
        return static_cast<int64_t>(take<uint64_t>(key));
      case kInt64:
        return take<int64_t>(key);
      default:
        corrupt(key, "a metadata kind in [0, 12]", std::to_string(kind));
    }
  }

  GgufValue array(const std::string& key) {
    const uint32_t kind = take<uint32_t>(key + " element kind");
    if (kind == kArray) corrupt(key, "an array of plain values", "an array of arrays");
    const uint64_t size = count(key + " size", kind == kString ? 8 : 1);
    if (kind == kString) {
      std::vector<std::string> values(static_cast<size_t>(size));
      for (std::string& item : values) item = text(key);
      return values;
    }
    if (kind == kFloat32 || kind == kFloat64) {
      std::vector<double> values;
      for (uint64_t i = 0; i < size; ++i) values.push_back(kind == kFloat32 ? take<float>(key) : take<double>(key));
      return values;
    }
    std::vector<int64_t> values;
    for (uint64_t i = 0; i < size; ++i) values.push_back(kind == kBool ? take<uint8_t>(key) : integer(kind, key));
    return values;
  }

  std::span<const std::byte> bytes_;
  const std::string& name_;
  size_t position_ = 0;
};

GgufFile::GgufFile(const std::filesystem::path& path) : name_(path.filename().string()), file_(path) {
  Reader reader(file_.bytes(), name_);
  const uint32_t magic = reader.take<uint32_t>("magic");
  if (magic != 0x46554747u) reader.corrupt("magic", "'GGUF'", "something else");
  const uint32_t version = reader.take<uint32_t>("version");
  if (version != 2 && version != 3) reader.corrupt("version", "2 or 3", std::to_string(version));
  constexpr size_t kLeastTensorBytes = 8 + 4 + 8 + 4 + 8, kLeastValueBytes = 8 + 4 + 1;
  const uint64_t tensor_count = reader.count("tensor count", kLeastTensorBytes);
  const uint64_t value_count = reader.count("metadata count", kLeastValueBytes);
  for (uint64_t i = 0; i < value_count; ++i) {
    const std::string key = reader.text("metadata key");
    const uint32_t kind = reader.take<uint32_t>(key);
    if (!metadata_.emplace(key, reader.value(kind, key)).second) reader.corrupt("metadata", "each key once", key);
  }

  struct Place {
    uint64_t offset;
    const std::string* name;
  };
  std::vector<Place> places;
  for (uint64_t i = 0; i < tensor_count; ++i) {
    const std::string name = reader.text("tensor name");
    const uint32_t dimensions = reader.take<uint32_t>(name);
    if (dimensions == 0 || dimensions > kMaxDimensions) {
      reader.corrupt(name, "1 to 4 dimensions", std::to_string(dimensions));
    }
    Tensor tensor{};
    int64_t elements = 1;
    for (uint32_t d = 0; d < dimensions; ++d) {
      const uint64_t extent = reader.take<uint64_t>(name);
      if (extent == 0 || extent > static_cast<uint64_t>(kMaxExtent / elements)) {
        reader.corrupt(name, "extents in range", std::to_string(extent));
      }
      elements *= static_cast<int64_t>(extent);
      tensor.info.shape.insert(tensor.info.shape.begin(), static_cast<int64_t>(extent));
    }
    tensor.type = reader.take<uint32_t>(name);
    tensor.info.type = tensor_type_name(tensor.type);
    const uint64_t offset = reader.take<uint64_t>(name);
    const TensorType* known = find_tensor_type(tensor.type);
    if (known) {
      if (tensor.info.shape.back() % known->block != 0) {
        reader.corrupt(name, "rows of a multiple of " + std::to_string(known->block),
                       std::to_string(tensor.info.shape.back()));
      }
      tensor.bytes = static_cast<size_t>(elements / known->block * known->block_bytes);
    }
    const auto [it, fresh] = tensors_.emplace(name, tensor);
    if (!fresh) reader.corrupt("tensors", "each name once", name);
    places.push_back({offset, &it->first});
  }

  const int64_t alignment = integer("general.alignment", 32);
  if (alignment < 1 || alignment > 65536 || (alignment & (alignment - 1)) != 0) {
    reader.corrupt("general.alignment", "a power of two up to 65536", std::to_string(alignment));
  }
  const size_t data = (reader.position() + static_cast<size_t>(alignment) - 1) / alignment * alignment;
  std::map<uint64_t, uint64_t> taken;  // begin -> end
  for (const Place& place : places) {
    Tensor& tensor = tensors_.find(*place.name)->second;
    const size_t room = file_.bytes().size() > data ? file_.bytes().size() - data : 0;
    if (place.offset > room || tensor.bytes > room - place.offset || place.offset % alignment != 0) {
      reader.corrupt(*place.name, "an aligned offset with " + std::to_string(tensor.bytes) + " bytes after it",
                     std::to_string(place.offset) + " of " + std::to_string(room));
    }
    tensor.data = file_.bytes().data() + data + place.offset;
    const auto after = taken.upper_bound(place.offset);
    const uint64_t end = place.offset + tensor.bytes;
    if ((after != taken.end() && after->first < end) ||
        (after != taken.begin() && std::prev(after)->second > place.offset)) {
      reader.corrupt(*place.name, "memory of its own", "an overlap with another tensor");
    }
    if (end > place.offset) taken.emplace(place.offset, end);  // what an unknown type takes is not known
  }
}

const GgufValue* GgufFile::find(std::string_view key) const {
  const auto it = metadata_.find(key);
  return it == metadata_.end() ? nullptr : &it->second;
}

const GgufValue& GgufFile::required(std::string_view key) const {
  const GgufValue* value = find(key);
  if (!value) throw CorruptFile(error_text(name_ + ": " + std::string(key), "a value", "none"));
  return *value;
}

namespace {

template <class T>
T value_of(const GgufFile& file, std::string_view key, const T& fallback, const char* kind) {
  const GgufValue* value = file.find(key);
  if (!value) return fallback;
  if (const T* typed = std::get_if<T>(value)) return *typed;
  throw CorruptFile(error_text(file.name() + ": " + std::string(key), kind, "another kind"));
}

}  // namespace

int64_t GgufFile::integer(std::string_view key, int64_t fallback) const {
  return value_of<int64_t>(*this, key, fallback, "an integer");
}
double GgufFile::number(std::string_view key, double fallback) const {
  return value_of<double>(*this, key, fallback, "a number");
}
bool GgufFile::flag(std::string_view key, bool fallback) const {
  return value_of<bool>(*this, key, fallback, "a flag");
}
std::string GgufFile::text(std::string_view key, const std::string& fallback) const {
  return value_of<std::string>(*this, key, fallback, "a text");
}
template <class T>
std::vector<T> GgufFile::list(std::string_view key) const {
  return value_of<std::vector<T>>(*this, key, {}, "a list");
}
template std::vector<int64_t> GgufFile::list(std::string_view) const;
template std::vector<double> GgufFile::list(std::string_view) const;
template std::vector<std::string> GgufFile::list(std::string_view) const;

}  // namespace espalier
