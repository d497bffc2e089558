// Adapters: what turns a named base model into a linearized one (docs/formats/adapter.md).
//
// A directory with adapter.json (attention per layer, base hash, LoRA scale, the command that made it) and
// adapter.safetensors: the mechanisms' parameters under their model names, and LoRA pairs
// "<weight without .weight>.lora_a" [r, in] and ".lora_b" [out, r]; W' = W + scale * B A.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "checkpoint/model_files.h"
#include "checkpoint/safetensors.h"

namespace espalier {

struct AdapterInfo {
  std::string base_sha256;
  std::string base_name;
  std::vector<std::string> attention;  // SPEC per layer
  double lora_scale = 1.0;
  std::string command;  // what made it
};

// Throws InvalidArgument (no such adapter), CorruptFile.
AdapterInfo read_adapter_info(const std::filesystem::path& directory);

// Throws InvalidArgument when `what` was made for another base than `files` (both hashes are named).
void check_base(const ModelFiles& files, const std::string& sha256, const std::string& base_name,
                const std::string& what);

// Lays the adapter over `files`: attention and tensors. Throws InvalidArgument when it was made for another base (both
// hashes are named), CorruptFile when a tensor does not fit.
void apply_adapter(ModelFiles& files, const std::filesystem::path& directory);

// Writes both files, each as a whole; adapter.json last, so that a directory with one is complete.
void write_adapter(const std::filesystem::path& directory, const AdapterInfo& info,
                   const std::vector<TensorToWrite>& tensors);

}  // namespace espalier
