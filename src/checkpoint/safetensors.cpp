#include "checkpoint/safetensors.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "core/error.h"
#include "core/half.h"

namespace espalier {
namespace {

using Json = nlohmann::json;

template <class T>
float element(const std::byte* p) {
  T value;
  std::memcpy(&value, p, sizeof(T));
  return static_cast<float>(value);
}
float half_element(const std::byte* p) {
  uint16_t value;
  std::memcpy(&value, p, 2);
  return half_to_float(value);
}
float bf16_element(const std::byte* p) {
  uint16_t value;
  std::memcpy(&value, p, 2);
  return bf16_to_float(value);
}

struct ElementType {
  const char* name;
  int64_t bytes;
  float (*read)(const std::byte*);
};

constexpr ElementType kTypes[] = {
    {"F32", 4, element<float>},    {"BF16", 2, bf16_element},    {"F16", 2, half_element},
    {"F64", 8, element<double>},   {"I64", 8, element<int64_t>}, {"I32", 4, element<int32_t>},
    {"I16", 2, element<int16_t>},  {"I8", 1, element<int8_t>},   {"U8", 1, element<uint8_t>},
    {"BOOL", 1, element<uint8_t>},
};

const ElementType* type_named(std::string_view name) {
  for (const ElementType& type : kTypes) {
    if (type.name == name) return &type;
  }
  return nullptr;
}

constexpr uint64_t kMaxHeader = 100 << 20;
constexpr int64_t kMaxElements = int64_t{1} << 40;

}  // namespace

SafetensorsSource::SafetensorsSource(const std::vector<std::filesystem::path>& shards) {
  for (const std::filesystem::path& path : shards) add_shard(path);
}

void SafetensorsSource::add_shard(const std::filesystem::path& path) {
  const std::string name = path.filename().string();
  const auto corrupt = [&](const std::string& field, const std::string& expected, const std::string& got) {
    throw CorruptFile(error_text(name + ": " + field, expected, got, "to download the file again"));
  };
  if (where_.empty()) where_ = name;
  files_.emplace_back(path);
  const std::span<const std::byte> bytes = files_.back().bytes();
  uint64_t header_size = 0;
  if (bytes.size() < 8) corrupt("header", "8 bytes", std::to_string(bytes.size()));
  std::memcpy(&header_size, bytes.data(), 8);
  if (header_size > kMaxHeader || header_size > bytes.size() - 8) {
    corrupt("header size", "at most " + std::to_string(std::min<uint64_t>(kMaxHeader, bytes.size() - 8)),
            std::to_string(header_size));
  }
  const std::span<const std::byte> data = bytes.subspan(8 + static_cast<size_t>(header_size));
  const char* text = reinterpret_cast<const char*>(bytes.data()) + 8;
  // Of two values under one name the parser keeps the last.
  std::set<std::string> names;
  std::string twice;
  const auto see_name = [&](int depth, Json::parse_event_t event, const Json& key) {
    if (event == Json::parse_event_t::key && depth == 1 && !names.insert(key.get<std::string>()).second) twice = key;
    return true;
  };
  const Json header = Json::parse(text, text + header_size, see_name, false);
  if (!header.is_object()) corrupt("header", "a JSON object", "something else");
  if (!twice.empty()) corrupt(twice, "each name once", "two tensors");
  struct Part {
    uint64_t begin, end;
    const std::string* name;
  };
  std::vector<Part> parts;
  for (const auto& [key, value] : header.items()) {
    if (key == "__metadata__") {
      if (!value.is_object()) corrupt(key, "an object", "something else");
      for (const auto& [field, item] : value.items()) {
        if (item.is_string()) metadata_[field] = item.get<std::string>();
      }
      continue;
    }
    if (!value.is_object() || !value.contains("dtype") || !value["dtype"].is_string() || !value.contains("shape") ||
        !value["shape"].is_array() || !value.contains("data_offsets") || !value["data_offsets"].is_array() ||
        value["data_offsets"].size() != 2) {
      corrupt(key, "dtype, shape and data_offsets", value.dump().substr(0, 60));
    }
    Entry entry;
    entry.info.type = value["dtype"].get<std::string>();
    int64_t elements = 1;
    for (const Json& extent : value["shape"]) {
      if (!extent.is_number_unsigned() || extent.get<uint64_t>() > static_cast<uint64_t>(kMaxElements)) {
        corrupt(key, "extents in range", extent.dump());
      }
      const int64_t size = extent.get<int64_t>();
      if (size != 0 && elements > kMaxElements / size) corrupt(key, "extents in range", value["shape"].dump());
      elements *= size;
      entry.info.shape.push_back(size);
    }
    const Json &from = value["data_offsets"][0], &to = value["data_offsets"][1];
    if (!from.is_number_unsigned() || !to.is_number_unsigned() || from.get<uint64_t>() > to.get<uint64_t>() ||
        to.get<uint64_t>() > data.size()) {
      corrupt(key, "offsets within " + std::to_string(data.size()) + " bytes", value["data_offsets"].dump());
    }
    const uint64_t begin = from.get<uint64_t>(), end = to.get<uint64_t>();
    const ElementType* type = type_named(entry.info.type);
    if (type && static_cast<uint64_t>(elements * type->bytes) != end - begin) {
      corrupt(key, std::to_string(elements * type->bytes) + " bytes", std::to_string(end - begin));
    }
    entry.data = data.data() + begin;
    const auto [place, fresh] = entries_.emplace(key, std::move(entry));
    if (!fresh) corrupt(key, "each name once", "two tensors");
    parts.push_back({begin, end, &place->first});
  }

  // Tensors lie one behind the other, as the format says: what is between them would be lost or read twice.
  std::sort(parts.begin(), parts.end(),
            [](const Part& a, const Part& b) { return a.begin != b.begin ? a.begin < b.begin : a.end < b.end; });
  uint64_t covered = 0;
  for (const Part& part : parts) {
    if (part.begin < covered) corrupt(*part.name, "memory of its own", "an overlap with another tensor");
    if (part.begin > covered) {
      corrupt(*part.name, "offset " + std::to_string(covered), std::to_string(part.begin) + ": a hole before it");
    }
    covered = part.end;
  }
  if (covered != data.size()) {
    corrupt("data", std::to_string(covered) + " bytes, as its tensors have", std::to_string(data.size()));
  }
}

std::vector<std::string> SafetensorsSource::names() const {
  std::vector<std::string> all;
  for (const auto& [name, entry] : entries_) all.push_back(name);
  return all;
}

const TensorInfo* SafetensorsSource::find(std::string_view name) const {
  const auto it = entries_.find(name);
  return it == entries_.end() ? nullptr : &it->second.info;
}

void SafetensorsSource::read(std::string_view name, float* out) const {
  const TensorInfo* info = find(name);
  read_rows(name, 0, info ? info->rows() : 0, out);
}

void SafetensorsSource::read_rows(std::string_view name, int64_t first, int64_t count, float* out) const {
  const auto it = entries_.find(name);
  const std::string place = where_ + ": tensor " + std::string(name);
  if (it == entries_.end()) throw InvalidArgument(error_text(place, "a tensor", "none"));
  const ElementType* type = type_named(it->second.info.type);
  if (!type) throw NotSupported(error_text(place, "a known tensor type", it->second.info.type));
  const int64_t columns = it->second.info.columns(), elements = count * columns;
  const std::byte* data = it->second.data + first * columns * type->bytes;
  if (std::string_view(type->name) == "F32") {
    std::memcpy(out, data, static_cast<size_t>(elements) * 4);
  } else {
    for (int64_t i = 0; i < elements; ++i) out[i] = type->read(data + i * type->bytes);
  }
  MappedFile::release({data, static_cast<size_t>(elements * type->bytes)});
}

namespace {

int64_t elements_of(const TensorToWrite& tensor) {
  int64_t elements = 1;
  for (const int64_t extent : tensor.shape) elements *= extent;
  return elements;
}

}  // namespace

void write_safetensors(const std::filesystem::path& path, const std::vector<TensorToWrite>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  Json header = Json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  uint64_t offset = 0;
  for (const TensorToWrite& tensor : tensors) {
    const bool narrow = tensor.type == StoredType::kBf16;
    const uint64_t bytes = static_cast<uint64_t>(elements_of(tensor)) * (narrow ? 2 : 4);
    header[tensor.name] = {
        {"dtype", narrow ? "BF16" : "F32"}, {"shape", tensor.shape}, {"data_offsets", {offset, offset + bytes}}};
    offset += bytes;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const uint64_t size = text.size();
  write_file(path, [&](const std::function<void(std::string_view part)>& write) {
    write({reinterpret_cast<const char*>(&size), 8});
    write(text);
    std::vector<float> values;
    std::vector<bf16> rounded;
    for (const TensorToWrite& tensor : tensors) {
      const auto elements = static_cast<size_t>(elements_of(tensor));
      const float* own = tensor.values;
      if (tensor.read) {
        values.resize(elements);
        tensor.read(values.data());
        own = values.data();
      }
      if (tensor.type == StoredType::kF32) {
        write({reinterpret_cast<const char*>(own), elements * sizeof(float)});
        continue;
      }
      rounded.resize(elements);
      for (size_t i = 0; i < elements; ++i) rounded[i] = float_to_bf16(own[i]);
      write({reinterpret_cast<const char*>(rounded.data()), elements * sizeof(bf16)});
    }
  });
}

}  // namespace espalier
