// What a sequence's past means to a model, and the rows of a step that wait to become part of it. Both are opaque:
// Model makes, commits, saves and reads them (models/state_access.h is for what computes steps).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "attention/state/layer_state.h"
#include "attention/state/row_tail.h"

namespace espalier {

class Mechanism;

// What an encoder made of a source text: each decoder layer's keys and values, and how they are attended to.
struct SourceState {
  std::vector<LayerState> layers;
  std::shared_ptr<const Mechanism> mechanism;
};

// A value: copying it forks the sequence. A default-constructed one is no model's; Model::new_state() is the state
// before the first token.
class SequenceState {
 public:
  bool empty() const { return layers_.empty(); }  // of no model
  int64_t length() const { return layers_.empty() ? 0 : layers_[0].length(); }
  int64_t bytes() const;
  // Canonical bytes, without what a source left: equal pasts give equal bytes. Model::read_state() is the inverse.
  void serialize(std::string& out) const;

 private:
  friend struct StateAccess;
  std::vector<LayerState> layers_;
  std::vector<RowTail> tails_;                 // of Model::tails(), in their order
  std::shared_ptr<const SourceState> source_;  // of an encoder-decoder; shared by forks
};

// The rows that a step computed for one segment, waiting to be committed. Dropping it is cancellation.
class Pending {
 public:
  int64_t rows() const { return static_cast<int64_t>(parents_.size()); }

 private:
  friend struct StateAccess;
  int64_t base_ = 0;                       // the state's length that the rows follow
  bool span_ = false;                      // rows that see each other: not to be committed
  std::vector<int32_t> parents_;           // [R]
  std::vector<std::vector<float>> k_, v_;  // per layer [R, Hk, Dk], [R, Hk, Dv]
  std::vector<std::vector<float>> extra_;  // per layer [R, Hk, dim_extra]
  std::vector<std::vector<float>> tails_;  // per tail [R, width]
};

}  // namespace espalier
