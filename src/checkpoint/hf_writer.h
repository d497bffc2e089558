// A model as a directory in Hugging Face's layout: config.json, model.safetensors, the tokenizer's files.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "checkpoint/model_files.h"
#include "checkpoint/safetensors.h"

namespace espalier {

struct HfDirectory {
  StoredType type = StoredType::kF32;  // of the model's own tensors
  // What its attention adds: mechanisms' parameters, always f32. Their names stand beside the model's own.
  std::vector<TensorToWrite> attention = {};
  // Called before each tensor; what it throws ends the writing, and nothing is left behind.
  std::function<void(int64_t done, int64_t total)> progress = {};
};

// Writes `files` with its attention (config.json: "espalier") under the names and in the layouts that the family's
// files have, so that transformers reads a model of plain attention as its own. Nothing is left behind when it fails.
// Throws InvalidArgument when `directory` exists and is not empty.
void write_hf_directory(const ModelFiles& files, const HfDirectory& content, const std::filesystem::path& directory);

}  // namespace espalier
