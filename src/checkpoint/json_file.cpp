#include "checkpoint/json_file.h"

#include "core/error.h"
#include "core/file.h"

namespace espalier {

nlohmann::json read_json_file(const std::filesystem::path& path) {
  constexpr size_t kMost = size_t{256} << 20;
  const std::string text = read_text_file(path, kMost);
  nlohmann::json json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_object()) throw CorruptFile(error_text(path.filename().string(), "a JSON object", "something else"));
  return json;
}

}  // namespace espalier
