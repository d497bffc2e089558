// JSON files of a model directory, which are not to be trusted.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>

namespace espalier {

// Throws CorruptFile naming the file for anything but a JSON object.
nlohmann::json read_json_file(const std::filesystem::path& path);

}  // namespace espalier
