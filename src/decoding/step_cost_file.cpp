#include "decoding/step_cost_file.h"

#include <cstdlib>
#include <fstream>
#include <map>
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

using Times = std::map<std::string, std::vector<double>>;

// What in the file can be step times; whatever stands in a cache may be wrong.
Times read_cache(const std::filesystem::path& path) {
  Times times;
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) return times;
  nlohmann::json json;
  try {
    json = nlohmann::json::parse(read_text_file(path, kMaxFileBytes), nullptr, false);
  } catch (const Error&) {
  }
  if (!json.is_object()) return times;
  for (const auto& [key, value] : json.items()) {
    std::vector<double> points;
    for (size_t i = 0; value.is_array() && i < value.size() && value[i].is_number(); ++i) {
      points.push_back(value[i].get<double>());
    }
    if (points.size() == value.size() && StepCost::from_points(points)) times[key] = points;
  }
  return times;
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
  size_t begin = 0;  // of layers that are alike
  for (size_t l = 1; l <= config.attention.size(); ++l) {
    if (l < config.attention.size() && config.attention[l] == config.attention[begin]) continue;
    key += " " + config.attention[begin];
    if (l - begin < config.attention.size()) key += " x" + std::to_string(l - begin);
    begin = l;
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
  const Times times = read_cache(path);
  const auto found = times.find(key);
  return found == times.end() ? std::nullopt : StepCost::from_points(found->second);
}

bool save_step_cost(const std::filesystem::path& path, const std::string& key, const StepCost& cost) {
  const std::vector<double> points = cost.points();
  if (points.empty()) return true;
  Times times = read_cache(path);
  if (times.size() >= kMaxKeys && !times.contains(key)) times.clear();
  times[key] = points;
  try {
    std::error_code error;
    std::filesystem::create_directories(path.parent_path(), error);
    write_file(path, nlohmann::json(times).dump(1) + "\n");
  } catch (const std::exception&) {
    return false;
  }
  return true;
}

}  // namespace espalier
