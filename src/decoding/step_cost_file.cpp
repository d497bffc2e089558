#include "decoding/step_cost_file.h"

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/file.h"

namespace espalier {
namespace {

constexpr size_t kMaxKeys = 64, kMaxFileBytes = 1 << 20;

std::string processor_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("model name")) return line.substr(line.find(':') + 1);
  }
  return "processor";
}

// The file's object; an empty one for anything else. Whatever stands in a cache may be wrong.
nlohmann::json read_cache(const std::filesystem::path& path) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) return nlohmann::json::object();
  try {
    nlohmann::json json = nlohmann::json::parse(read_text_file(path, kMaxFileBytes), nullptr, false);
    if (json.is_object()) return json;
  } catch (const Error&) {
  }
  return nlohmann::json::object();
}

}  // namespace

std::string step_cost_key(const Model& model, const std::string& weights, int threads) {
  const ModelConfig& config = model.config();
  std::string key = processor_name() + " | " + std::string(isa_name(model.kernels().isa)) + " | " +
                    std::to_string(threads) + " threads | " + config.family;
  for (const int64_t size : {config.num_hidden_layers, config.hidden_size, config.intermediate_size, config.vocab_size,
                             model.weight_bytes()}) {
    key += " " + std::to_string(size);
  }
  key += " | " + weights + " |";
  for (size_t l = 0; l < config.attention.size(); ++l) {
    if (l == 0 || config.attention[l] != config.attention[l - 1]) key += " " + config.attention[l];
  }
  return key;
}

std::optional<std::filesystem::path> step_cost_path() {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  if (cache && *cache) return std::filesystem::path(cache) / "espalier" / "step_times.json";
  const char* home = std::getenv("HOME");
  if (home && *home) return std::filesystem::path(home) / ".cache" / "espalier" / "step_times.json";
  return std::nullopt;
}

std::optional<StepCost> load_step_cost(const std::filesystem::path& path, const std::string& key) {
  const nlohmann::json json = read_cache(path);
  if (!json.contains(key) || !json[key].is_array()) return std::nullopt;
  std::vector<double> points;
  for (const nlohmann::json& point : json[key]) {
    if (!point.is_number()) return std::nullopt;
    points.push_back(point.get<double>());
  }
  return StepCost::from_points(points);
}

bool save_step_cost(const std::filesystem::path& path, const std::string& key, const StepCost& cost) {
  const std::vector<double> points = cost.points();
  if (points.empty()) return true;
  nlohmann::json json = read_cache(path);
  if (json.size() >= kMaxKeys && !json.contains(key)) json = nlohmann::json::object();
  json[key] = points;
  try {
    std::error_code error;
    std::filesystem::create_directories(path.parent_path(), error);
    write_file(path, json.dump(1) + "\n");
  } catch (const std::exception&) {
    return false;
  }
  return true;
}

}  // namespace espalier
