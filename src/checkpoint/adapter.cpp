#include "checkpoint/adapter.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/file.h"

namespace espalier {
namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;

constexpr const char* kFormat = "espalier-adapter-1";

class AdaptedSource : public TensorSource {
 public:
  AdaptedSource(std::shared_ptr<const TensorSource> base, std::shared_ptr<const SafetensorsSource> adapter,
                double scale)
      : base_(std::move(base)), adapter_(std::move(adapter)), scale_(static_cast<float>(scale)) {
    for (const std::string& name : adapter_->names()) check(name);
  }

  std::vector<std::string> names() const override {
    std::vector<std::string> all = base_->names();
    for (const std::string& name : adapter_->names()) {
      if (!is_lora(name) && !base_->find(name)) all.push_back(name);
    }
    std::sort(all.begin(), all.end());
    return all;
  }
  const TensorInfo* find(std::string_view name) const override {
    if (is_lora(name)) return nullptr;
    const TensorInfo* own = adapter_->find(name);
    return own ? own : base_->find(name);
  }
  void read(std::string_view name, float* out) const override { read_rows(name, 0, known(name).rows(), out); }
  bool reads_rows(std::string_view name) const override {
    return adapter_->find(name) ? adapter_->reads_rows(name) : base_->reads_rows(name);
  }
  void read_rows(std::string_view name, int64_t first, int64_t count, float* out) const override {
    const TensorInfo& info = known(name);
    if (adapter_->find(name)) return adapter_->read_rows(name, first, count, out);
    // A whole is read as such: some sources give it at once only.
    const bool whole = first == 0 && count == info.rows();
    whole ? base_->read(name, out) : base_->read_rows(name, first, count, out);
    add_product(name, first, count, info.columns(), out);
  }
  std::string where() const override { return base_->where() + " + " + adapter_->where(); }

 private:
  static bool is_lora(std::string_view name) { return name.ends_with(".lora_a") || name.ends_with(".lora_b"); }
  static std::string stem_of(std::string_view name) {
    if (name.ends_with(".weight")) name.remove_suffix(7);
    return std::string(name);
  }

  const TensorInfo& known(std::string_view name) const {
    const TensorInfo* info = find(name);
    if (!info) throw InvalidArgument(error_text(where(), "tensor " + std::string(name), "none"));
    return *info;
  }

  void check(const std::string& name) const {
    if (!is_lora(name)) return;
    const std::string stem = name.substr(0, name.size() - 7);
    const TensorInfo* weight = base_->find(stem + ".weight");
    const TensorInfo* a = adapter_->find(stem + ".lora_a");
    const TensorInfo* b = adapter_->find(stem + ".lora_b");
    if (!weight || !a || !b || weight->shape.size() != 2 || a->shape.size() != 2 || b->shape.size() != 2 ||
        a->shape[1] != weight->shape[1] || b->shape[0] != weight->shape[0] || a->shape[0] != b->shape[1]) {
      throw CorruptFile(error_text(adapter_->where() + ": tensor " + name, "a LoRA pair that fits the base", "none"));
    }
  }

  // out += scale * B A, rank by rank in ascending order: rows [first, first + count), if there is such a pair.
  void add_product(std::string_view name, int64_t first, int64_t count, int64_t inputs, float* out) const {
    const std::string stem = stem_of(name);
    const TensorInfo* info = adapter_->find(stem + ".lora_a");
    if (!info) return;
    const int64_t rank = info->rows();
    std::vector<float> a(static_cast<size_t>(rank * inputs)), b(static_cast<size_t>(count * rank));
    adapter_->read(stem + ".lora_a", a.data());
    adapter_->read_rows(stem + ".lora_b", first, count, b.data());
    for (int64_t o = 0; o < count; ++o) {
      float* row = out + o * inputs;
      for (int64_t r = 0; r < rank; ++r) {
        const float factor = scale_ * b[static_cast<size_t>(o * rank + r)];
        const float* from = a.data() + r * inputs;
        for (int64_t i = 0; i < inputs; ++i) row[i] += factor * from[i];
      }
    }
  }

  std::shared_ptr<const TensorSource> base_;
  std::shared_ptr<const SafetensorsSource> adapter_;
  float scale_;
};

}  // namespace

AdapterInfo read_adapter_info(const fs::path& directory) {
  const fs::path path = directory / "adapter.json";
  const Json json = Json::parse(read_text_file(path, size_t{16} << 20), nullptr, false);
  const auto corrupt = [&](const char* key, const char* expected) {
    throw CorruptFile(error_text(path.string() + ": " + key, expected, "something else"));
  };
  if (!json.is_object() || json.value("format", Json()) != kFormat) corrupt("format", kFormat);
  AdapterInfo info;
  try {
    info.base_sha256 = json.at("base_sha256").get<std::string>();
    info.base_name = json.value("base_name", "");
    info.attention = json.at("attention").get<std::vector<std::string>>();
    info.lora_scale = json.value("lora_scale", 1.0);
    info.command = json.value("command", "");
  } catch (const Json::exception&) {
    corrupt("fields", "base_sha256, attention and lora_scale");
  }
  if (!std::isfinite(info.lora_scale)) corrupt("lora_scale", "a finite number");
  return info;
}

void check_base(const ModelFiles& files, const std::string& sha256, const std::string& base_name,
                const std::string& what) {
  const std::string hash = base_hash(files);
  if (hash == sha256) return;
  throw InvalidArgument(error_text(what, "the base " + base_name + " (sha256 " + sha256.substr(0, 12) + "…)",
                                   "sha256 " + hash.substr(0, 12) + "…", "the base that it was made for"));
}

void apply_adapter(ModelFiles& files, const fs::path& directory) {
  const AdapterInfo info = read_adapter_info(directory);
  check_base(files, info.base_sha256, info.base_name, "adapter " + directory.string());
  if (static_cast<int64_t>(info.attention.size()) != files.config.num_hidden_layers) {
    throw CorruptFile(error_text(directory.string() + ": attention",
                                 std::to_string(files.config.num_hidden_layers) + " layers",
                                 std::to_string(info.attention.size())));
  }
  auto adapter = std::make_shared<const SafetensorsSource>(std::vector<fs::path>{directory / "adapter.safetensors"});
  files.tensors = std::make_shared<AdaptedSource>(files.tensors, std::move(adapter), info.lora_scale);
  files.config.attention = info.attention;
  files.config.attention_trained = true;
}

void write_adapter(const fs::path& directory, const AdapterInfo& info, const std::vector<TensorToWrite>& tensors) {
  fs::create_directories(directory);
  const fs::path description = directory / "adapter.json", values = directory / "adapter.safetensors";
  const fs::path new_description = directory / "adapter.json.new", new_values = directory / "adapter.safetensors.new";
  const Json json = {{"format", kFormat},           {"base_sha256", info.base_sha256}, {"base_name", info.base_name},
                     {"attention", info.attention}, {"lora_scale", info.lora_scale},   {"command", info.command}};
  // All that can fail for want of space comes before the old adapter goes.
  write_safetensors(new_values, tensors);
  try {
    write_file(new_description, json.dump(2) + "\n");
  } catch (...) {
    fs::remove(new_values);
    throw;
  }
  fs::remove(description);
  fs::rename(new_values, values);
  fs::rename(new_description, description);
}

}  // namespace espalier
