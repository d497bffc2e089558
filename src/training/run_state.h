// A run's checkpoint: trainable tensors, the optimizer's moments, and where the run is.
#pragma once

#include <filesystem>
#include <string>

#include "training/optimizer.h"
#include "training/student.h"

namespace espalier {

struct RunPosition {
  std::string stage = "transfer";  // "transfer", "distill"; "draft"
  int64_t stage_tokens = 0;        // trained in this stage
  int64_t rows = 0;                // taken from the data so far
  int64_t tokens = 0;              // trained in all
  double seconds = 0;
  double before = 0, teacher = 0;  // measures of held-out text
};

// Replaces the file as a whole: a kill or a full disk leaves the last good one.
void save_run(const std::filesystem::path& path, const std::vector<Parameter>& parameters, const Adam& optimizer,
              const RunPosition& position, const std::string& made_by);
// Throws InvalidArgument when the checkpoint was made by something else (recipe, data, base).
void check_made_by(const std::filesystem::path& path, const std::string& made_by);
// Throws InvalidArgument when the checkpoint was made by something else (recipe, data, base), CorruptFile when it does
// not fit.
RunPosition load_run(const std::filesystem::path& path, std::vector<Parameter>& parameters, Adam& optimizer,
                     const std::string& made_by);

// Keeps the lines of metrics.jsonl whose `counter` is at most `most`: those after a checkpoint belong to steps that
// will run again.
void keep_metrics(const std::filesystem::path& path, const char* counter, int64_t most);

}  // namespace espalier
