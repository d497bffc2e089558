#include "checkpoint/json_file.h"

#include "core/error.h"
#include "core/file.h"

namespace espalier {

nlohmann::json read_json_file(const std::filesystem::path& path) {
  constexpr size_t kMost = size_t{256} << 20;
  const std::string text = read_text_file(path, kMost);
  // Copying and printing a value goes as deep as the value does.
  constexpr int kDeepest = 100;
  const auto check_depth = [&](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
    if (depth > kDeepest) {
      throw CorruptFile(error_text(path.filename().string(), "JSON of at most 100 levels", "deeper"));
    }
    return true;
  };
  nlohmann::json json = nlohmann::json::parse(text, check_depth, false);
  if (!json.is_object()) throw CorruptFile(error_text(path.filename().string(), "a JSON object", "something else"));
  return json;
}

}  // namespace espalier
