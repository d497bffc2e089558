#include "espalier/state.h"

#include "core/file.h"
#include "library/inside.h"

namespace espalier {
namespace {

StateBinding binding_of(const LanguageModel::Inside& model) {
  return state_binding(model.files, model.settings.adapter, model.settings.weights);
}

}  // namespace

State::State() : inside_(std::make_unique<Inside>()) {}
State::~State() = default;
State::State(const State& other) : inside_(std::make_unique<Inside>(*other.inside_)) {}
State& State::operator=(const State& other) {
  if (this != &other) inside_ = std::make_unique<Inside>(*other.inside_);
  return *this;
}
State::State(State&&) noexcept = default;
State& State::operator=(State&&) noexcept = default;

int64_t State::length() const {
  return static_cast<int64_t>(inside_->saved.tokens.size());
}

std::vector<int32_t> State::tokens() const {
  return inside_->saved.tokens;
}

int64_t State::bytes() const {
  return inside_->saved.state.bytes();
}

void State::save(const std::string& path, const LanguageModel& model) const {
  const LanguageModel::Inside& inside = model.inside();
  SavedState saved = inside_->saved;
  if (saved.state.empty()) saved.state = inside.model->new_state();
  write_state_file(path, saved, binding_of(inside));
}

State State::load(const std::string& path, const LanguageModel& model) {
  const LanguageModel::Inside& inside = model.inside();
  const MappedFile file(path);
  State state;
  state.inside_->saved = parse_state(file.text(), binding_of(inside), *inside.model, path);
  return state;
}

}  // namespace espalier
