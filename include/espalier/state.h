// What a model remembers of a text.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "espalier/model.h"

namespace espalier {

// A value: a copy is a fork, which goes on by itself; forks share their memory until they do. One thread at a time for
// each copy. It belongs to the model that made it, with its weights, adapter and attention.
class ESPALIER_API State {
 public:
  State();  // before any text
  ~State();
  State(const State& other);
  State& operator=(const State& other);
  State(State&&) noexcept;
  State& operator=(State&&) noexcept;

  // Of the text so far, in tokens.
  int64_t length() const;
  // The text so far.
  std::vector<int32_t> tokens() const;
  // Memory that it takes: the same at any length where ModelInfo::constant_state says so.
  int64_t bytes() const;

  // Writes the file as a whole, or not at all. `model` is the one that made the state.
  void save(const std::string& path, const LanguageModel& model) const;
  // Throws CorruptFile for a damaged file, InvalidArgument for one of another model.
  static State load(const std::string& path, const LanguageModel& model);

  struct Inside;
  const Inside& inside() const { return *inside_; }
  Inside& inside() { return *inside_; }

 private:
  std::unique_ptr<Inside> inside_;
};

}  // namespace espalier
