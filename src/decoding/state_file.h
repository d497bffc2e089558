// State files: a sequence's past, kept to go on from later (docs/formats/state.md).
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "decoding/generate.h"

namespace espalier {

// What a state depends on: it means nothing to another model.
struct StateBinding {
  std::string base_sha256;             // of the weight files
  std::string adapter_sha256;          // of the adapter's tensors; empty: none
  double lora_scale = 0;               // of the adapter
  std::vector<std::string> attention;  // SPEC per layer
  std::string weights;                 // "f32", "bf16"

  bool operator==(const StateBinding&) const = default;
};

// Hashes the files; `adapter` may be empty.
StateBinding state_binding(const ModelFiles& files, const std::filesystem::path& adapter, const std::string& weights);

struct SavedState {
  SequenceState state;
  std::vector<int32_t> tokens;  // the whole text; those from state.length() on still wait to be fed
};

// A request that goes on from `past` with `prompt`, and what it leaves behind.
GenerateRequest request_after(SavedState past, const std::vector<int32_t>& prompt);
SavedState state_after(const GenerateRequest& request, const GenerateResult& result);

std::string serialize_state(const SavedState& saved, const StateBinding& binding);
// The inverse. Throws CorruptFile naming `where` and the field; InvalidArgument when the state belongs to another
// model.
SavedState parse_state(std::string_view bytes, const StateBinding& binding, const Model& model,
                       const std::string& where);

// Replaces the file as a whole.
void write_state_file(const std::filesystem::path& path, const SavedState& saved, const StateBinding& binding);

}  // namespace espalier
