#include "decoding/engine.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "core/error.h"

namespace espalier {
namespace {

using Clock = std::chrono::steady_clock;

double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

int64_t rows_of(const Segment& segment, int64_t width) {
  return static_cast<int64_t>(segment.vectors.empty() ? segment.tokens.size()
                                                      : segment.vectors.size() / static_cast<size_t>(width));
}

}  // namespace

SequenceId Engine::admit(std::shared_ptr<Sequence> sequence) {
  ESPALIER_CHECK(sequence != nullptr);
  running_.push_back({++last_id_, std::move(sequence)});
  return last_id_;
}

void Engine::cancel(SequenceId id) {
  const auto own = std::find_if(running_.begin(), running_.end(), [&](const Running& one) { return one.id == id; });
  if (own != running_.end()) own->sequence->cancel();
}

std::vector<Engine::Share> Engine::plan(int64_t prompt_rows) {
  const auto sequences = static_cast<int64_t>(running_.size());
  const int64_t width = model_.config().hidden_size;
  std::vector<Share> shares;
  segments_.clear();
  for (size_t i = 0; i < running_.size(); ++i) {
    Sequence& sequence = *running_[i].sequence;
    const bool decoding = sequence.decoding();
    const size_t first = segments_.size();
    sequence.plan({.prompt_rows = std::min(prompt_rows, Model::kPrefillChunk), .sequences = sequences}, segments_);
    if (segments_.size() == first) continue;
    shares.push_back({i, first});
    for (size_t s = first; !decoding && s < segments_.size(); ++s) prompt_rows -= rows_of(segments_[s], width);
  }
  return shares;
}

bool Engine::step(int64_t prompt_rows) {
  if (prompt_rows < 1) throw InvalidArgument(error_text("step", "at least one row for prompts", "none"));
  drop_finished();
  if (running_.empty()) return false;
  const auto start = Clock::now();
  const bool decoding =
      std::all_of(running_.begin(), running_.end(), [](const Running& one) { return one.sequence->decoding(); });
  const std::vector<Share> shares = plan(prompt_rows);
  int64_t rows = 0;
  for (const Segment& segment : segments_) rows += rows_of(segment, model_.config().hidden_size);
  const auto step_start = Clock::now();
  model_.step(segments_, workspace_, output_);
  if (decoding) cost_.observe(rows, ms_since(step_start));
  for (const Share& share : shares) running_[share.running].sequence->take(output_, share.first_segment);
  const double ms = ms_since(start);
  for (const Share& share : shares) running_[share.running].sequence->spend(ms);
  drop_finished();
  return true;
}

void Engine::drop_finished() {
  for (const Running& one : running_) {
    if (one.sequence->finished()) finished_.push_back(one.id);
  }
  std::erase_if(running_, [](const Running& one) { return one.sequence->finished(); });
}

void Engine::clear() {
  running_.clear();
  finished_.clear();
}

std::vector<SequenceId> Engine::finished() {
  drop_finished();
  return std::exchange(finished_, {});
}

}  // namespace espalier
