#include "training/run_state.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "checkpoint/safetensors.h"
#include "core/error.h"
#include "core/file.h"

namespace espalier {

void save_run(const std::filesystem::path& path, const std::vector<Parameter>& parameters, const Adam& optimizer,
              const RunPosition& position, const std::string& made_by) {
  std::vector<at::Tensor> kept;
  std::vector<TensorToWrite> tensors;
  const auto add = [&](const std::string& name, const at::Tensor& tensor) {
    kept.push_back(tensor.detach().contiguous());
    tensors.push_back({name, tensor.sizes().vec(), kept.back().const_data_ptr<float>()});
  };
  for (size_t i = 0; i < parameters.size(); ++i) {
    add(parameters[i].name, parameters[i].tensor);
    add(parameters[i].name + "#first", optimizer.first[i]);
    add(parameters[i].name + "#second", optimizer.second[i]);
  }
  const nlohmann::json place = {{"stage", position.stage},     {"stage_tokens", position.stage_tokens},
                                {"rows", position.rows},       {"tokens", position.tokens},
                                {"seconds", position.seconds}, {"before", position.before},
                                {"teacher", position.teacher}, {"optimizer_steps", optimizer.steps}};
  write_safetensors(path, tensors, {{"position", place.dump()}, {"made_by", made_by}});
}

namespace {

void check_made_by(const SafetensorsSource& file, const std::filesystem::path& path, const std::string& made_by) {
  const auto maker = file.metadata().find("made_by");
  if (maker != file.metadata().end() && maker->second == made_by) return;
  throw InvalidArgument(error_text(path.string(), "a run of '" + made_by + "'",
                                   maker == file.metadata().end() ? "none" : "'" + maker->second + "'",
                                   "another --out, or the options of the first run"));
}

}  // namespace

void check_made_by(const std::filesystem::path& path, const std::string& made_by) {
  check_made_by(SafetensorsSource({path}), path, made_by);
}

RunPosition load_run(const std::filesystem::path& path, std::vector<Parameter>& parameters, Adam& optimizer,
                     const std::string& made_by) {
  const SafetensorsSource file({path});
  check_made_by(file, path, made_by);
  const at::NoGradGuard no_grad;
  const auto read = [&](const std::string& name, at::Tensor& tensor) {
    const std::vector<float> values = file.read_checked(name, tensor.sizes().vec());
    tensor.copy_(at::from_blob(const_cast<float*>(values.data()), tensor.sizes(), at::kFloat));
  };
  for (size_t i = 0; i < parameters.size(); ++i) {
    read(parameters[i].name, parameters[i].tensor);
    read(parameters[i].name + "#first", optimizer.first[i]);
    read(parameters[i].name + "#second", optimizer.second[i]);
  }
  const auto text = file.metadata().find("position");
  const nlohmann::json place = nlohmann::json::parse(text == file.metadata().end() ? "" : text->second, nullptr, false);
  RunPosition position;
  try {
    position.stage = place.at("stage").get<std::string>();
    position.stage_tokens = place.at("stage_tokens").get<int64_t>();
    position.rows = place.at("rows").get<int64_t>();
    position.tokens = place.at("tokens").get<int64_t>();
    position.seconds = place.at("seconds").get<double>();
    position.before = place.at("before").get<double>();
    position.teacher = place.at("teacher").get<double>();
    optimizer.steps = place.at("optimizer_steps").get<int64_t>();
    const bool known = position.stage == "transfer" || position.stage == "distill" || position.stage == "draft";
    if (!known || position.stage_tokens < 0 || position.rows < 0 || position.tokens < 0 || optimizer.steps < 0) {
      throw CorruptFile(error_text(path.string() + ": position", "a stage and its counters", place.dump()));
    }
  } catch (const nlohmann::json::exception&) {
    throw CorruptFile(
        error_text(path.string() + ": position", "a JSON object with the run's counters", "something else"));
  }
  return position;
}

void keep_metrics(const std::filesystem::path& path, const char* counter, int64_t most) {
  std::ifstream file(path);
  std::string line, kept;
  while (std::getline(file, line)) {
    const nlohmann::json json = nlohmann::json::parse(line, nullptr, false);
    if (json.is_object() && json.contains(counter) && json.value(counter, int64_t{0}) <= most) kept += line + "\n";
  }
  write_file(path, kept);
}

}  // namespace espalier
