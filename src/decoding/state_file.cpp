#include "decoding/state_file.h"

#include <cstring>
#include <nlohmann/json.hpp>

#include "checkpoint/adapter.h"
#include "core/byte_reader.h"
#include "core/error.h"
#include "core/file.h"
#include "core/hash.h"

namespace espalier {
namespace {

constexpr std::string_view kMagic = "ESPSTAT1";
constexpr size_t kHashBytes = 64;  // hexadecimal
constexpr uint64_t kMaxHeader = 1 << 20;
constexpr uint64_t kMaxTokens = 1 << 26;

std::span<const std::byte> as_bytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

constexpr const char* kHint = "a state that --state-out wrote";

// What stands between the magic and the checksum.
std::string_view checked_body(std::string_view bytes, const std::string& where) {
  const ByteReader whole(bytes, where, kHint);
  if (bytes.substr(0, kMagic.size()) != kMagic) whole.refuse("magic", std::string(kMagic), "something else");
  if (bytes.size() < kMagic.size() + kHashBytes) whole.refuse("checksum", "64 bytes at the end", "fewer");
  const std::string_view content = bytes.substr(0, bytes.size() - kHashBytes);
  if (sha256(as_bytes(content)) != bytes.substr(content.size())) {
    whole.refuse("checksum", "that of the content", "another");
  }
  return content.substr(kMagic.size());
}

nlohmann::json binding_json(const StateBinding& binding) {
  nlohmann::json json = {{"base_sha256", binding.base_sha256},
                         {"adapter_sha256", binding.adapter_sha256},
                         {"attention", binding.attention},
                         {"weights", binding.weights}};
  if (!binding.adapter_sha256.empty()) json["lora_scale"] = binding.lora_scale;
  return json;
}

// Names what differs.
void check_binding(const nlohmann::json& header, const StateBinding& binding, const std::string& where) {
  const nlohmann::json expected = binding_json(binding);
  for (const auto& [key, value] : expected.items()) {
    if (header.contains(key) && header[key] == value) continue;
    if (!header.contains(key)) {
      throw InvalidArgument(
          error_text(where + ": " + key, "a state that names it", "one of an older program", "to make the state anew"));
    }
    const auto shown = [](const nlohmann::json& json) {
      return json.is_array() && !json.empty() ? json[0].dump() + " …" : json.dump();
    };
    throw InvalidArgument(
        error_text(where + ": " + key, shown(value), shown(header[key]), "the model and options that made the state"));
  }
}

}  // namespace

StateBinding state_binding(const ModelFiles& files, const std::filesystem::path& adapter, const std::string& weights) {
  StateBinding binding{.base_sha256 = base_hash(files), .weights = weights};
  for (const std::string& spec : files.config.attention) {
    binding.attention.push_back(AttentionSpec::parse(spec).text());
  }
  if (!adapter.empty()) {
    binding.adapter_sha256 = sha256(MappedFile(adapter / "adapter.safetensors").bytes());
    binding.lora_scale = read_adapter_info(adapter).lora_scale;
  }
  return binding;
}

GenerateRequest request_after(SavedState past, const std::vector<int32_t>& prompt) {
  GenerateRequest request;
  const auto fed = past.tokens.begin() + past.state.length();
  request.history.assign(past.tokens.begin(), fed);
  request.prompt.assign(fed, past.tokens.end());  // tokens that the state has not seen yet
  request.prompt.insert(request.prompt.end(), prompt.begin(), prompt.end());
  request.state = std::move(past.state);
  return request;
}

SavedState state_after(const GenerateRequest& request, const GenerateResult& result) {
  SavedState after{result.state, request.history};
  after.tokens.insert(after.tokens.end(), request.prompt.begin(), request.prompt.end());
  after.tokens.insert(after.tokens.end(), result.tokens.begin(), result.tokens.end());
  return after;
}

std::string serialize_state(const SavedState& saved, const StateBinding& binding) {
  std::string out(kMagic);
  const std::string header = binding_json(binding).dump();
  append_number(out, header.size());
  out += header;
  append_number(out, saved.tokens.size());
  for (const int32_t token : saved.tokens) append_number(out, static_cast<uint64_t>(token));
  saved.state.serialize(out);
  return out + sha256(as_bytes(out));
}

SavedState parse_state(std::string_view bytes, const StateBinding& binding, const Model& model,
                       const std::string& where) {
  ByteReader reader(checked_body(bytes, where), where, kHint);
  const uint64_t header_bytes = reader.number("header size", kMaxHeader);
  const auto header = nlohmann::json::parse(reader.take(header_bytes, "header"), nullptr, false);
  if (!header.is_object()) reader.refuse("header", "a JSON object", "something else");
  check_binding(header, binding, where);

  SavedState saved;
  const uint64_t tokens = reader.number("token count", kMaxTokens);
  const auto vocab_size = static_cast<uint64_t>(model.config().vocab_size);
  for (uint64_t i = 0; i < tokens; ++i) {
    saved.tokens.push_back(static_cast<int32_t>(reader.number("token", vocab_size - 1)));
  }
  saved.state = model.read_state(reader);
  if (saved.state.length() > static_cast<int64_t>(saved.tokens.size())) {
    reader.refuse("state length", "at most " + std::to_string(saved.tokens.size()) + " tokens",
                  std::to_string(saved.state.length()));
  }
  if (reader.left() > 0) reader.refuse("end", "nothing more", "more bytes");
  return saved;
}

void write_state_file(const std::filesystem::path& path, const SavedState& saved, const StateBinding& binding) {
  write_file(path, serialize_state(saved, binding));
}

}  // namespace espalier
